"""How long real sockets wait, against a schedule that the test knows; and MPTCP's hidden ones."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from twdiag import lab
from twdiag.analysis.half_closed import CloseWaitKind
from twdiag.analysis.view import View
from twdiag.lab.actors import (
    HERE,
    PORT,
    Instant,
    Program,
    Sockets,
    await_end,
    close,
    listen,
    meet,
    receive,
    send,
)
from twdiag.lab.scenario import Scenario
from twdiag.sources import collect
from twdiag.tcp import State

from .conftest import result_of

if TYPE_CHECKING:
    from twdiag.lab import Stage
    from twdiag.model.snapshot import Snapshot

PAUSE = 0.3
SLACK = 0.25  # s; a close and the note of its moment may lie so far apart on a busy machine
IPPROTO_MPTCP = 262


def ports(sockets: Sockets) -> list[int]:
    return [connection.getsockname()[1] for connection in sockets.connected]


def keep_last_alive(sockets: Sockets) -> None:
    sockets.connected[-1].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def build(stage: Stage) -> None:
    """Close one of four connections after the other; the server keeps each."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 4)
    server.do(keep_last_alive)
    client.do(send, b"x")
    server.do(receive, b"x")
    sent = time.monotonic()
    order: list[int] = client.do(ports)
    closes: list[Instant] = []
    for number in range(1, 5):
        time.sleep(PAUSE)
        closes += client.do(close, 1)
        server.do(await_end, number)
    stage.wait_for({State.CLOSE_WAIT: 4})
    stage.notes.update(sent=sent, closed=dict(zip(order, closes, strict=True)))


@dataclass(frozen=True)
class Seen:
    """A snapshot's CLOSE_WAITs by the peer's port, and when it was taken by time.monotonic()."""

    bounds: dict[int, tuple[CloseWaitKind, float | None, float | None]]
    closed: dict[int, float]
    sent: float
    before: float
    after: float


def look(stage: Stage) -> Seen:
    before = time.monotonic()
    snapshot = collect("netlink")
    after = time.monotonic()
    closed, sent = stage.notes["closed"], stage.notes["sent"]
    assert isinstance(closed, dict)
    assert isinstance(sent, float)
    return Seen(
        {w.socket.remote_port: (w.kind, w.age_min, w.age_max) for w in View(snapshot).close_waits},
        {port: moment[0] for port, moment in closed.items()},
        sent,
        before,
        after,
    )


@pytest.fixture(scope="module")
def seen() -> Seen:
    return result_of(lab.start(Scenario("schedule", "", "", build), look, settle=0.2))


def test_the_bounds_of_the_age_hold_the_true_age(seen: Seen) -> None:
    assert len(seen.bounds) == 4
    assert seen.bounds.keys() == seen.closed.keys()
    for port, (_, age_min, age_max) in seen.bounds.items():
        youngest, oldest = seen.before - seen.closed[port], seen.after - seen.closed[port]
        assert (age_min or 0.0) <= oldest + SLACK
        assert age_max is not None
        assert age_max >= youngest - 0.01


def test_the_lower_bound_is_the_age_itself_where_nothing_came_later(seen: Seen) -> None:
    for port in list(seen.closed)[:3]:
        age_min = seen.bounds[port][1]
        assert age_min == pytest.approx(seen.before - seen.closed[port], abs=SLACK)


def test_the_upper_bound_is_the_last_data(seen: Seen) -> None:
    for _, _, age_max in seen.bounds.values():
        assert age_max == pytest.approx(seen.before - seen.sent, abs=SLACK)


def test_with_keepalive_the_lower_bound_is_not_too_high(seen: Seen) -> None:
    last = list(seen.closed)[3]
    age_min = seen.bounds[last][1]
    assert age_min is not None
    assert age_min <= seen.after - seen.closed[last] + SLACK


def test_drained_sockets_are_told_from_unread_ones(seen: Seen) -> None:
    assert {kind for kind, _, _ in seen.bounds.values()} == {CloseWaitKind.LEAKED}


# MPTCP.


def listen_mptcp(sockets: Sockets) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    listener.bind((HERE, PORT))
    listener.listen(5)
    listener.setblocking(False)
    sockets.listening.append(listener)


def connect_mptcp(sockets: Sockets, count: int) -> None:
    for _ in range(count):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        client.settimeout(5)
        client.connect((HERE, PORT))
        sockets.connected.append(client)


def accept_all(sockets: Sockets, count: int) -> None:
    (listener,) = sockets.listening
    listener.settimeout(5)
    for _ in range(count):
        connection, _ = listener.accept()
        connection.settimeout(5)
        sockets.connected.append(connection)


def half_close(sockets: Sockets) -> None:
    """Send a byte, without which the kernel has no data sequence to end, and the end."""
    for connection in sockets.connected:
        connection.sendall(b"x")
        connection.shutdown(socket.SHUT_WR)


def read_to_end(sockets: Sockets) -> None:
    for connection in sockets.connected:
        while connection.recv(10):
            pass


def build_mptcp(stage: Stage) -> None:
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen_mptcp)
    client.do(connect_mptcp, 3)
    server.do(accept_all, 3)
    client.do(half_close)
    server.do(read_to_end)


def look_mptcp(_: Stage) -> tuple[Snapshot, dict[State, int], list[CloseWaitKind]]:
    deadline = time.monotonic() + 5
    while True:
        snapshot = collect("netlink")
        waiting = View(snapshot).close_waits
        if len(waiting) == 3 or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return snapshot, dict(collect("proc").census.states), [w.kind for w in waiting]


def test_mptcp_connections_that_wait_are_seen_though_tcp_hides_them() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError as error:
        pytest.skip(f"no MPTCP: {os.strerror(error.errno or 0)}")
    snapshot, tcp, kinds = result_of(lab.start(Scenario("mptcp", "", "", build_mptcp), look_mptcp))
    if any(gap.what == "mptcp" for gap in snapshot.gaps):
        pytest.skip("the kernel has no mptcp_diag module")
    census = snapshot.census
    assert tcp.get(State.CLOSE_WAIT) is None
    assert kinds == [CloseWaitKind.LEAKED] * 3
    mptcp = [s for s in census.sockets if s.mptcp]
    assert {s.state for s in mptcp} == {State.CLOSE_WAIT, State.FIN_WAIT2}
    assert all(s.inode for s in mptcp)
    # A subflow and its connection are one user of one port.
    assert census.by_client.sockets == tcp[State.ESTABLISHED] / 2 == 3
