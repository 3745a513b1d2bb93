"""Real sockets are announced as they end, and what they leave behind is looked up."""

from __future__ import annotations

import socket
import time

from hypothesis import given
from hypothesis import strategies as st

from tests.engine import endings
from tests.engine.privately import become_nobody, in_private
from twdiag.sources.live.tracing.destroy_events import Announcements
from twdiag.sources.live.tracing.left_behind import LeftBehind, decode_answers
from twdiag.tcp import State


@given(st.binary(max_size=200))
def test_any_bytes_are_answers_or_none(data: bytes) -> None:
    assert len(list(decode_answers(data))) <= len(data) / 16 + 1


def test_real_sockets_are_announced_and_looked_up() -> None:
    def work() -> tuple[list[tuple[int, int]], list[State | None], list[bool], int | None]:
        become_nobody()
        with Announcements() as announcements, LeftBehind() as left:
            with endings.listen(7200) as listener:
                client, server = endings.connected(listener)
                server.close()
                client.recv(1)
                client.close()
                deaths = []
                until = time.monotonic() + 5
                while len(deaths) < 2 and time.monotonic() < until:
                    announcements.wait(0.1)
                    deaths += announcements.read()
                deaths.sort(key=lambda death: death.local_port)
                states = left.states(deaths)
                listening = left.listen(deaths)
            ports = [(death.local_port, death.remote_port) for death in deaths]
            return ports, states, listening, announcements.lost

    ports, states, listening, lost = in_private(work)
    (server, client) = ports if ports[0][0] == 7200 else reversed(ports)
    assert server == (7200, client[0])
    assert client == (server[1], 7200)
    by_port = dict(
        zip([port for port, _ in ports], zip(states, listening, strict=True), strict=True)
    )
    assert by_port[7200] == (State.TIME_WAIT, True)
    assert by_port[client[0]] == (None, False)
    assert lost == 0


def test_announcements_without_room_are_counted_exactly() -> None:
    def work() -> tuple[int, int | None]:
        with Announcements() as announcements:
            announcements._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made = 200
            for _ in range(made):
                socket.socket().close()  # announced like any other
            time.sleep(0.3)
            return made - len(announcements.read()), announcements.lost

    missing, lost = in_private(work)
    assert missing == lost
    assert missing > 0
