"""What the descriptors of a process are: real sockets in every state, and what is not visible."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.engine.privately import become_nobody, in_private
from twdiag.errors import SourceRefused
from twdiag.sources.live.processes import breakdown
from twdiag.sources.live.processes.breakdown import break_down
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twdiag.model.snapshot import Breakdown

IDLE, GUARDED, RESET = 40, 10, 5
ABORT = struct.pack("ii", 1, 0)


class Held(NamedTuple):
    """What was seen of this process, and how many idle seconds its connections had."""

    seen: Breakdown
    idle: float


def hold(known: Mapping[int, State]) -> Held:
    """Have idle, guarded and reset connections, and break this process down."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        for number in range(IDLE + GUARDED + RESET):
            client = socket.create_connection(listener.getsockname())
            server = stack.enter_context(listener.accept()[0])
            if number < GUARDED:
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if number < IDLE + GUARDED:
                stack.enter_context(client)
            else:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                client.close()
        since = time.monotonic()
        time.sleep(0.3)
        found, gaps = break_down([os.getpid()], known)
        assert gaps == []
        return Held(found[os.getpid()], time.monotonic() - since)


def test_each_socket_is_told_by_its_state_or_as_in_no_table() -> None:
    seen, _ = in_private(lambda: hold({}))
    assert seen.states[State.ESTABLISHED] == 2 * (IDLE + GUARDED)
    assert seen.states[State.LISTEN] == 1
    assert seen.nowhere == RESET


def test_a_socket_that_never_was_tcp_is_another_and_in_no_table_of_tcp() -> None:
    def look() -> Breakdown:
        left, right = socket.socketpair()
        with left, right, socket.socket(type=socket.SOCK_DGRAM):
            return break_down([os.getpid()], {})[0][os.getpid()]

    seen = in_private(look)
    kinds = seen.kinds["Unix socket"], seen.kinds["other socket"]
    assert (seen.nowhere, *kinds) == (0, 2, 1)


def test_a_socket_closed_while_the_tables_are_read_is_not_said_to_be_in_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look() -> int:
        lost = socket.socket()

        def read(inodes: Collection[int]) -> dict[int, State]:
            assert os.fstat(lost.fileno()).st_ino in inodes
            lost.close()
            return {}

        monkeypatch.setattr(breakdown, "read_states", read)
        return break_down([os.getpid()], {})[0][os.getpid()].nowhere

    assert in_private(look) == 0


def test_idle_connections_without_keepalive_have_their_ages() -> None:
    seen, idle = in_private(lambda: hold({}))
    assert seen.aged == 2 * (IDLE + GUARDED)
    assert len(seen.unguarded) == 2 * IDLE
    for end in seen.unguarded:
        assert end.info is not None
        assert 0.3 <= (end.info.last_data_recv + 50) / 1000 <= idle + 5
    assert seen.running is not None
    assert seen.running >= 0.3


def test_a_thousand_of_very_many_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "_MOST_AGED", 30)
    seen, _ = in_private(lambda: hold({}))
    assert seen.states[State.ESTABLISHED] == 2 * (IDLE + GUARDED)
    assert 20 <= seen.aged <= 30
    assert 0 < len(seen.unguarded) <= seen.aged


def test_few_connections_among_many_descriptors_are_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breakdown, "_MANY", 0.99)
    seen, _ = in_private(lambda: hold({}))
    assert (seen.aged, seen.unguarded, seen.running) == (0, (), None)


def test_without_the_tables_no_socket_is_said_to_be_in_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> dict[int, State]:
        raise SourceRefused("the kernel refuses the socket dump", "run as root")

    monkeypatch.setattr(breakdown, "read_states", refuse)
    found, (gap,) = break_down([os.getpid()], {})
    assert found == {}
    assert gap.partial
    assert "the kernel refuses the socket dump" in gap.why


def test_another_users_process_is_a_gap() -> None:
    def as_nobody() -> tuple[int, list[str]]:
        parent = os.getppid()
        become_nobody()
        found, gaps = break_down([parent], {})
        return len(found), [gap.what for gap in gaps]

    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    assert in_private(as_nobody) == (0, ["breakdown"])


def hold_unix() -> Breakdown:
    """Connect to twelve Unix services of this process, and break it down."""
    with contextlib.ExitStack() as stack:
        for number in range(12):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"\0twdiag-{number}")
            listener.listen()
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(f"\0twdiag-{number}")
            stack.enter_context(listener.accept()[0])
        (seen,) = break_down([os.getpid()], {})[0].values()
        return seen


def test_unix_sockets_are_told_as_such() -> None:
    seen = in_private(hold_unix)
    assert seen.kinds["Unix socket"] >= 36
    assert seen.unix_path == ""


def test_accepted_unix_sockets_have_the_path_of_their_service() -> None:
    def accepted_alone() -> Breakdown:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\0twdiag-service")
        listener.listen(64)
        held = []
        for _ in range(40):
            client = socket.socket(socket.AF_UNIX)
            client.connect("\0twdiag-service")
            held.append(listener.accept()[0])
            client.close()
        (seen,) = break_down([os.getpid()], {})[0].values()
        return seen

    assert in_private(accepted_alone).unix_path == "@twdiag-service"
