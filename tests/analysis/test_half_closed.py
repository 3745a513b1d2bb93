"""CLOSE_WAIT by why it waits, how long, and who holds it."""

from __future__ import annotations

import pytest

from twdiag.analysis.half_closed import (
    CloseWaitKind,
    Holder,
    Waiting,
    by_process,
    by_program,
    identity,
)
from twdiag.analysis.view import View
from twdiag.model.snapshot import Gap, Host, Owner, Snapshot
from twdiag.model.sockets import Socket, TcpInfo
from twdiag.sources.live.sockets.seen import census_of_sockets
from twdiag.tcp import State

LISTEN = Socket(State.LISTEN, "0.0.0.0", 80, "0.0.0.0", 0)
SERVED = Socket(State.CLOSE_WAIT, "10.0.0.1", 80, "10.0.0.9", 5000, inode=7, cookie=70)
CLIENT = Socket(State.CLOSE_WAIT, "10.0.0.1", 40000, "10.0.0.9", 443, inode=8, cookie=80)


def snapshot(*rows: Socket, **fields: object) -> Snapshot:
    defaults: dict[str, object] = {"taken_at": 100.0}
    return Snapshot(
        host=Host("h", "6.18"),
        source="netlink",
        census=census_of_sockets(lambda: rows, {}),
        **(defaults | fields),  # type: ignore[arg-type]
    )


def close_waits(seen: Snapshot) -> list[Waiting]:
    return View(seen).close_waits


def aged(socket: Socket, sent: int, data: int, ack: int) -> Socket:
    return socket._replace(info=TcpInfo(sent, data, ack))


def only(*rows: Socket, **fields: object) -> Waiting:
    (waiting,) = close_waits(snapshot(LISTEN, *rows, **fields))
    return waiting


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (SERVED, CloseWaitKind.LEAKED),
        (CLIENT, CloseWaitKind.LEAKED),
        (SERVED._replace(recv_q=101), CloseWaitKind.UNREAD),
        (CLIENT._replace(recv_q=101), CloseWaitKind.UNREAD),
        (CLIENT._replace(recv_q=1), CloseWaitKind.IDLE_POOL),
        (CLIENT._replace(recv_q=25), CloseWaitKind.IDLE_POOL),
        (CLIENT._replace(recv_q=32), CloseWaitKind.IDLE_POOL),
        (CLIENT._replace(recv_q=2), CloseWaitKind.UNREAD),
        (SERVED._replace(recv_q=1), CloseWaitKind.UNREAD),
        (SERVED._replace(inode=0, recv_q=1), CloseWaitKind.NEVER_ACCEPTED),
        (SERVED._replace(inode=0), CloseWaitKind.NEVER_ACCEPTED),
    ],
)
def test_close_waits_are_sorted_by_why_they_wait(row: Socket, kind: CloseWaitKind) -> None:
    waiting = only(row)
    assert waiting.kind is kind
    assert waiting.server == (row.local_port == 80)
    assert waiting.socket == row


def test_an_mptcp_connection_without_inode_was_accepted() -> None:
    seen = snapshot(SERVED._replace(inode=0, mptcp=True))
    assert close_waits(seen)[0].kind is CloseWaitKind.LEAKED


def test_other_states_do_not_wait() -> None:
    rows = [SERVED._replace(state=state) for state in State if state is not State.CLOSE_WAIT]
    assert close_waits(snapshot(*rows)) == []
    assert close_waits(snapshot()) == []


def test_the_bounds_of_the_age_come_from_tcp_info() -> None:
    waiting = only(aged(SERVED, 1, 40_500, 12_000))
    assert (waiting.age_min, waiting.age_max) == (12.0, 40.5)


def test_without_tcp_info_there_is_no_bound() -> None:
    waiting = only(SERVED)
    assert (waiting.age_min, waiting.age_max) == (None, None)


def test_a_fresh_one_is_zero_seconds_old_and_not_of_unknown_age() -> None:
    assert only(aged(SERVED, 0, 0, 0)).age_min == 0.0


# Two samples.


def test_a_socket_that_waited_before_is_at_least_as_old_as_the_sample() -> None:
    earlier = snapshot(SERVED, taken_at=70.0)
    waiting = only(SERVED, earlier=earlier)
    assert (waiting.age_min, waiting.new) == (30.0, False)
    older = only(aged(SERVED, 0, 50_000, 45_000), earlier=earlier)
    assert older.age_min == 45.0
    kept_alive = only(aged(SERVED, 0, 50_000, 500), earlier=earlier)
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


def test_a_sample_that_did_not_see_sockets_tells_nothing() -> None:
    blind = snapshot(taken_at=70.0, gaps=(Gap("sockets", "why", "how"),))
    assert only(SERVED, earlier=blind).new is None


def test_identity_is_that_of_the_socket_and_not_of_its_look() -> None:
    six = SERVED._replace(local_address="2001:db8::1", remote_address="2001:db8::2")
    assert identity(six) == identity(aged(six, 1, 2, 3)._replace(recv_q=9))
    assert identity(six) != identity(six._replace(local_address="2001:db8::7", cookie=9))


def test_without_cookies_the_inode_is_the_identity() -> None:
    row = SERVED._replace(cookie=0)
    assert identity(row) == identity(row._replace(recv_q=1))
    assert identity(row) != identity(row._replace(inode=6))


# Holders.


def waits(*bounds: tuple[float | None, float | None, bool | None]) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(SERVED._replace(inode=inode), CloseWaitKind.LEAKED, True, low, high, new)
        for inode, (low, high, new) in enumerate(bounds, start=1)
    )


def test_a_holder_is_as_old_as_all_of_its_sockets() -> None:
    holder = Holder(None, 0, waits((5.0, 9.0, None), (3.0, 8.0, None)))
    assert (holder.age_min, holder.age_max) == (3.0, 9.0)
    assert holder.new() is None


def test_a_socket_of_unknown_age_leaves_its_holder_without_that_bound() -> None:
    holder = Holder(None, 0, waits((5.0, 9.0, True), (None, 8.0, False), (4.0, None, True)))
    assert (holder.age_min, holder.age_max) == (None, None)
    assert holder.new() == 2


SHOP = Owner(10, "shop", "www", fds=9, fd_limit=4, parent=5)
CART = Owner(11, "cart", "www")


def held(*inodes: int, uid: int = 0) -> list[Socket]:
    return [SERVED._replace(inode=inode, uid=uid, cookie=inode) for inode in inodes]


def test_sockets_are_grouped_by_process_and_the_rest_by_user() -> None:
    rows = [*held(1), *held(2, 3, 4, uid=33), *held(5, uid=44), *held(6)]
    seen = snapshot(*rows, owners={1: (SHOP, CART), 6: (CART,)})
    groups = by_process(seen.owners, close_waits(seen))
    assert [
        (h.owner, h.uid, [w.socket.inode for w in h.sockets], h.processes, h.largest)
        for h in groups
    ] == [
        (None, 33, [2, 3, 4], 1, 3),
        (SHOP, 0, [1], 1, 1),
        (None, 44, [5], 1, 1),
        (CART, 0, [6], 1, 1),
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
    groups = by_program(seen.owners, close_waits(seen))
    assert [
        (h.owner, sorted(w.socket.inode for w in h.sockets), h.processes, h.largest) for h in groups
    ] == [
        (SHOP, [1, 2, 3, 6], 2, 3),
        (CART, [4], 1, 1),
        (other_user, [5], 1, 1),
        (None, [7], 1, 1),
    ]
    assert groups[0].fd_share == 0.75
    assert groups[1].fd_share is None
    assert [h.name for h in groups[:2]] == ["shop (2 processes)", "cart (pid 11)"]
    assert groups[3].name == "a process of uid 33 (owner not visible)"


def test_a_port_that_no_client_gets_is_a_server_s_though_its_listener_is_gone() -> None:
    # Its peer has a client's port; towards a service's it would be a client with a fixed port.
    (waiting,) = close_waits(snapshot(SERVED._replace(recv_q=1, remote_port=50_000)))
    assert waiting.server
    assert waiting.kind is CloseWaitKind.UNREAD


def test_without_sockets_there_is_no_holder() -> None:
    assert by_process(snapshot(), []) == by_program(snapshot(), []) == []
