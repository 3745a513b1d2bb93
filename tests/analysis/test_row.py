"""What one row tells of itself: its side, who closed first, its age and what it has left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made import (
    HERE,
    SYSCTLS,
    aged,
    close_wait,
    closed_first,
    established,
    fin_wait2,
    listening,
    orphans,
    snapshot_of,
    time_wait,
)
from twdiag.analysis.half_closed import orphan_seconds
from twdiag.analysis.row import CLOSED_FIRST, Age, SocketSide, age_of, left_of, side_of
from twdiag.analysis.view import View
from twdiag.model.sockets import TIMER_KEEPALIVE, Socket
from twdiag.tcp import State

VIEW = View(snapshot_of(listening(8080), listening(443), listening(40000, "127.0.0.1")))


def connection(port: int, remote_port: int, address: str = HERE) -> Socket:
    return Socket(State.ESTABLISHED, address, port, "10.0.0.9", remote_port)


@pytest.mark.parametrize(
    ("socket", "side"),
    [
        (listening(8080), SocketSide.LISTENER),
        (Socket(State.CLOSE, HERE, 40001, "0.0.0.0", 0, bound=True), SocketSide.BOUND),
        (connection(8080, 50000), SocketSide.SERVER),
        (connection(8080, 80), SocketSide.SERVER),  # whatever the client's port
        (connection(40002, 5432), SocketSide.CLIENT),
        (connection(40000, 5432, "127.0.0.1"), SocketSide.SERVER),
        (connection(40000, 5432), SocketSide.UNKNOWN),  # listened on at another address
        (connection(25, 50000), SocketSide.SERVER),  # its listener is gone
        (connection(700, 2049), SocketSide.CLIENT),  # NFS comes from a fixed port
        (connection(40002, 5432)._replace(mptcp=True), SocketSide.UNKNOWN),
    ],
)
def test_which_side_a_socket_is(socket: Socket, side: SocketSide) -> None:
    assert side_of(VIEW, socket) is side


def test_sides_are_those_that_the_census_counts() -> None:
    sockets = [*closed_first(30), *time_wait(20), listening(443)]
    view = View(snapshot_of(*sockets))
    sides = [side_of(view, socket) for socket in sockets]
    assert sides.count(SocketSide.SERVER) == sum(s.tally.sockets for s in view.servers) == 30
    assert sides.count(SocketSide.CLIENT) == view.census.by_client.sockets == 20


def test_who_closed_first_is_told_by_the_state() -> None:
    told = {state.name: first for state, first in CLOSED_FIRST.items() if first}
    here = dict.fromkeys(("FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"), "here")
    assert told == {**here, "CLOSE_WAIT": "peer", "LAST_ACK": "peer", "CLOSING": "both"}


@given(st.floats(0, 60))
def test_a_time_wait_tells_its_age_and_what_it_has_left(age: float) -> None:
    (socket,) = time_wait(1, age=age)
    low, high = age_of(socket, 60)
    assert low == high == pytest.approx(age, abs=0.002)
    assert left_of(socket) == pytest.approx(60 - age, abs=0.002)


def test_a_longer_timer_than_the_kernels_tells_nothing_of_the_age() -> None:
    (socket,) = time_wait(1, age=-10)  # Alibaba's tcp_tw_timeout
    assert age_of(socket, 60) == Age()
    assert left_of(socket) == 70


@pytest.mark.parametrize(
    ("timeout", "left", "age"), [(60, 50, 10), (90, 20, 40), (120, 57, 63), (None, 5, None)]
)
def test_an_orphan_is_as_old_as_its_timer_tells(
    timeout: int | None, left: float, age: float | None
) -> None:
    (socket,) = orphans(1, left=left)
    assert age_of(socket, timeout) == Age(age, age)
    assert left_of(socket) == left


def test_an_orphan_that_waits_above_a_minute_is_a_full_socket_first() -> None:
    (socket,) = aged([orphans(1, left=58)[0]._replace(timer=TIMER_KEEPALIVE)], 2)
    assert age_of(socket, 120) == Age(2, 2)
    assert left_of(socket, 120) == 58 + 60
    assert left_of(socket, None) is None
    assert left_of(socket._replace(inode=7), 120) is None  # a process holds it


@given(st.integers(0, 300))
def test_the_kernel_splits_the_wait_of_an_orphan_above_a_minute(timeout: int) -> None:
    assert orphan_seconds(timeout) == (timeout if timeout <= 60 else timeout - 60)


def test_half_closed_sockets_have_the_ages_of_their_last_traffic() -> None:
    (waiting,), (held,) = aged(close_wait(1), 90), aged(fin_wait2(1), 70)
    assert age_of(waiting, 60) == Age(90, 90)
    assert age_of(held, 60) == Age(70, 70)
    assert left_of(waiting) is left_of(held) is None
    assert age_of(close_wait(1)[0], 60) == Age()


def test_open_connections_have_no_age() -> None:
    (socket,) = aged(established(1), 100)
    assert age_of(socket, int(SYSCTLS["net.ipv4.tcp_fin_timeout"])) == Age()
