"""CLOSE_WAIT by why it waits, how long, and who holds it."""

from __future__ import annotations

import pytest

from twdiag.analysis.half_closed import (
    Holder,
    Kind,
    Waiting,
    by_process,
    by_program,
    close_waits,
    earlier_waits,
    identity,
)
from twdiag.model.? import SocketTable
from twdiag.model.sockets import Socket
from twdiag.model.snapshot import Gap, Host, Owner, Snapshot
from twdiag.model.sockets import TcpInfo
from twdiag.tcp import State

LISTEN = Socket(State.LISTEN, "0.0.0.0", 80, "0.0.0.0", 0)
SERVED = Socket(State.CLOSE_WAIT, "10.0.0.1", 80, "10.0.0.9", 5000, inode=7, cookie=70)
CLIENT = Socket(State.CLOSE_WAIT, "10.0.0.1", 40000, "10.0.0.9", 443, inode=8, cookie=80)


def snapshot(*rows: Socket, **fields: object) -> Snapshot:
    defaults: dict[str, object] = {"taken_at": 100.0}
    return Snapshot(
        host=Host("h", "6.18"),
        source="netlink",
        sockets=SocketTable.of(rows),
        **(defaults | fields),  # type: ignore[arg-type]
    )


def only(*rows: Socket, **fields: object) -> Waiting:
    (waiting,) = close_waits(snapshot(LISTEN, *rows, **fields))
    return waiting


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (SERVED, Kind.LEAKED),
        (CLIENT, Kind.LEAKED),
        (SERVED._replace(recv_q=101), Kind.UNREAD),
        (CLIENT._replace(recv_q=101), Kind.UNREAD),
        (CLIENT._replace(recv_q=1), Kind.IDLE_POOL),
        (CLIENT._replace(recv_q=25), Kind.IDLE_POOL),
        (CLIENT._replace(recv_q=32), Kind.IDLE_POOL),
        (CLIENT._replace(recv_q=2), Kind.UNREAD),
        (SERVED._replace(recv_q=1), Kind.UNREAD),
        (SERVED._replace(inode=0, recv_q=1), Kind.NEVER_ACCEPTED),
        (SERVED._replace(inode=0), Kind.NEVER_ACCEPTED),
    ],
)
def test_close_waits_are_sorted_by_why_they_wait(row: Socket, kind: Kind) -> None:
    waiting = only(row)
    assert waiting.kind is kind
    assert waiting.server == (row.local_port == 80)
    assert waiting.row == 1


def test_an_mptcp_connection_without_inode_was_accepted() -> None:
    seen = snapshot(SERVED._replace(inode=0))
    seen.sockets.mptcp = {0}
    assert close_waits(seen)[0].kind is Kind.LEAKED


def test_other_states_do_not_wait() -> None:
    rows = [SERVED._replace(state=state) for state in State if state is not State.CLOSE_WAIT]
    assert close_waits(snapshot(*rows)) == []
    assert close_waits(snapshot()) == []


def test_the_bounds_of_the_age_come_from_tcp_info() -> None:
    info = {70: TcpInfo(last_data_sent=1, last_data_recv=40_500, last_ack_recv=12_000)}
    waiting = only(SERVED, tcp_info=info)
    assert (waiting.age_min, waiting.age_max) == (12.0, 40.5)


def test_without_tcp_info_there_is_no_bound() -> None:
    waiting = only(SERVED, tcp_info={71: TcpInfo(1, 2, 3)})
    assert (waiting.age_min, waiting.age_max) == (None, None)


def test_a_fresh_one_is_zero_seconds_old_and_not_of_unknown_age() -> None:
    assert only(SERVED, tcp_info={70: TcpInfo(0, 0, 0)}).age_min == 0.0


# Two samples.


def test_a_socket_that_waited_before_is_at_least_as_old_as_the_sample() -> None:
    earlier = snapshot(SERVED, taken_at=70.0)
    waiting = only(SERVED, earlier=earlier)
    assert (waiting.age_min, waiting.new) == (30.0, False)
    older = only(SERVED, earlier=earlier, tcp_info={70: TcpInfo(0, 50_000, 45_000)})
    assert older.age_min == 45.0
    kept_alive = only(SERVED, earlier=earlier, tcp_info={70: TcpInfo(0, 50_000, 500)})
    assert (kept_alive.age_min, kept_alive.age_max) == (30.0, 50.0)


@pytest.mark.parametrize(
    "before",
    [
        SERVED._replace(state=State.ESTABLISHED),
        SERVED._replace(cookie=71),
        SERVED._replace(remote_port=5001),
        SERVED._replace(remote_address="10.0.0.8"),
    ],
)
def test_a_socket_that_did_not_wait_before_is_new(before: Socket) -> None:
    waiting = only(SERVED, earlier=snapshot(before, taken_at=70.0))
    assert (waiting.age_min, waiting.new) == (None, True)


def test_one_sample_knows_of_nothing_new() -> None:
    assert only(SERVED).new is None
    assert earlier_waits(snapshot(SERVED), State.CLOSE_WAIT) is None


def test_a_sample_that_did_not_see_sockets_tells_nothing() -> None:
    blind = snapshot(taken_at=70.0, gaps=(Gap("sockets", "why", "how"),))
    assert only(SERVED, earlier=blind).new is None


def test_identity_outlives_the_table_and_its_numbering() -> None:
    six = SERVED._replace(local_address="2001:db8::1", remote_address="2001:db8::2")
    first = snapshot(six)
    second = snapshot(LISTEN, six._replace(local_address="2001:db8::7", cookie=9), six)
    assert identity(first, 0) == identity(second, 2)
    assert identity(first, 0) != identity(second, 1)


def test_without_cookies_the_inode_is_the_identity() -> None:
    row = SERVED._replace(cookie=0)
    assert identity(snapshot(row), 0) == identity(snapshot(LISTEN, row), 1)
    assert identity(snapshot(row), 0) != identity(snapshot(row._replace(inode=6)), 0)


# Holders.


def waits(*bounds: tuple[float | None, float | None, bool | None]) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(row, Kind.LEAKED, True, low, high, new)
        for row, (low, high, new) in enumerate(bounds)
    )


def test_a_holder_is_as_old_as_all_of_its_sockets() -> None:
    holder = Holder(None, 0, waits((5.0, 9.0, None), (3.0, 8.0, None)))
    assert (holder.age_min, holder.age_max) == (3.0, 9.0)
    assert holder.new() is None


def test_a_socket_of_unknown_age_leaves_its_holder_without_that_bound() -> None:
    holder = Holder(None, 0, waits((5.0, 9.0, True), (None, 8.0, False), (4.0, None, True)))
    assert (holder.age_min, holder.age_max) == (None, None)
    assert holder.new() == 2


SHOP, CART = Owner(10, "shop", "www", fds=9, fd_limit=4), Owner(11, "cart", "www")


def held(*inodes: int, uid: int = 0) -> list[Socket]:
    return [SERVED._replace(inode=inode, uid=uid) for inode in inodes]


def rows_of(holder: Holder) -> list[int]:
    return sorted(waiting.row for waiting in holder.sockets)


def test_sockets_are_grouped_by_process_and_the_rest_by_user() -> None:
    rows = [*held(1), *held(2, 3, 4, uid=33), *held(5, uid=44), *held(6)]
    seen = snapshot(*rows, owners={1: (SHOP, CART), 6: (CART,)})
    groups = by_process(seen, close_waits(seen))
    assert [
        (h.owner, h.uid, [w.row for w in h.sockets], h.processes, h.largest) for h in groups
    ] == [
        (None, 33, [1, 2, 3], 1, 3),
        (SHOP, 0, [0], 1, 1),
        (None, 44, [4], 1, 1),
        (CART, 0, [5], 1, 1),
    ]


def test_workers_of_one_program_are_one_holder() -> None:
    worker = SHOP._replace(pid=12)
    other_user = SHOP._replace(pid=13, user="root")
    seen = snapshot(
        *held(1, 2, 3, 4, 5, 6),
        *held(7, uid=33),
        owners={
            n: (o,) for n, o in enumerate([worker, SHOP, SHOP, CART, other_user, SHOP], start=1)
        },
    )
    groups = by_program(seen, close_waits(seen))
    assert [
        (h.owner, sorted(w.row for w in h.sockets), h.processes, h.largest) for h in groups
    ] == [
        (SHOP, [0, 1, 2, 5], 2, 3),
        (CART, [3], 1, 1),
        (other_user, [4], 1, 1),
        (None, [6], 1, 1),
    ]
    assert groups[0].fd_share == 0.75
    assert groups[1].fd_share is None
    assert [h.name for h in groups[:2]] == ["shop (2 processes)", "cart (pid 11)"]
    assert groups[3].name == "a process of uid 33 (owner not visible)"


def test_a_port_that_no_client_gets_is_a_server_s_though_its_listener_is_gone() -> None:
    (waiting,) = close_waits(snapshot(SERVED._replace(recv_q=1)))
    assert waiting.server
    assert waiting.kind is Kind.UNREAD


def test_without_sockets_there_is_no_holder() -> None:
    assert by_process(snapshot(), []) == by_program(snapshot(), []) == []
