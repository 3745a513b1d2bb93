"""Five readers look at the same real sockets and see the same."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from twdiag.model.sockets import Socket
from twdiag.tcp import State, parse_state

from .menagerie import NOBODY, ends

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model.census import Census

    from .menagerie import Views

TICK = 12  # ms: /proc counts in hundredths of a second, the kernel in jiffies
ENDS = ("local_address", "local_port", "remote_address", "remote_port")
COMMON = Socket._fields[: Socket._fields.index("cookie") + 1]
ALL = tuple(field for field in COMMON if field != "expires")
NO_COOKIE = tuple(field for field in ALL if field != "cookie")
KEPT = {
    "pyroute2": ALL,
    "DiagSocket": ALL,
    "proc": NO_COOKIE,
    "psutil": ("state", *ENDS),
}


def unscoped(row: Socket) -> Socket:
    """Return a row as a reader has it that shows no interface of link-local addresses."""
    return row._replace(
        local_address=row.local_address.partition("%")[0],
        remote_address=row.remote_address.partition("%")[0],
    )


def fields(row: Socket, names: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in names)


def expected(views: Views, reader: str) -> list[Socket]:
    """Return what a reader should show, from what our own shows."""
    rows = views.before
    if reader in ("proc", "psutil"):
        rows = [row for row in rows if row not in views.bound]
        rows = [r._replace(send_q=0) if r.state is State.LISTEN else r for r in rows]
    if reader != "pyroute2":
        rows = list(map(unscoped, rows))
    return rows


def calm(views: Views, rows: Iterable[Socket]) -> list[Socket]:
    """Return the rows without those whose timer fired while the readers looked."""
    return [row for row in rows if ends(row) not in views.restless]


def test_nothing_but_timers_moved_while_the_readers_looked(views: Views) -> None:
    assert len(views.restless) <= 3
    for one, other in zip(views.before, views.after, strict=True):
        if ends(one) not in views.restless:
            assert one._replace(expires=0, info=None) == other._replace(expires=0, info=None)
            assert one.expires >= other.expires


def test_the_sockets_are_of_every_kind(views: Views) -> None:
    states = Counter(row.state for row in views.before)
    assert states == {
        State.LISTEN: 11,
        State.CLOSE: 2,
        State.TIME_WAIT: 14,
        State.ESTABLISHED: 8,
        State.CLOSE_WAIT: 7,
        State.FIN_WAIT2: 4,
        State.FIN_WAIT1: 1,
        State.SYN_SENT: 1,
    }
    assert {row.timer for row in views.before} == {0, 1, 2, 3, 4}
    assert {row.local_address for row in views.before} == {
        "0.0.0.0",
        "10.77.0.1",
        "127.0.0.1",
        "::",
        "::1",
        "fe80::77%1",
    }
    assert {row.recv_q for row in views.before if row.state is State.CLOSE_WAIT} == {0, 1, 11}
    assert max(row.send_q for row in views.before) > 1 << 16
    assert sum(row.inode == 0 for row in views.before if row.state is State.CLOSE_WAIT) == 2


@pytest.mark.parametrize("reader", KEPT)
def test_readers_agree_on_every_field_that_both_show(views: Views, reader: str) -> None:
    kept = KEPT[reader]
    shown = views.readers[reader]
    assert len(shown) == len(expected(views, reader))
    own = Counter(fields(row, kept) for row in calm(views, expected(views, reader)))
    assert Counter(fields(row, kept) for row in calm(views, shown)) == own


@pytest.mark.parametrize("reader", ["pyroute2", "DiagSocket", "proc"])
def test_readers_agree_on_when_each_timer_fires(views: Views, reader: str) -> None:
    before = {ends(row): row.expires for row in calm(views, views.before) if row.timer}
    after = {ends(row): row.expires for row in calm(views, views.after) if row.timer}
    shown = {ends(row): row.expires for row in calm(views, views.readers[reader]) if row.timer}
    assert shown.keys() == before.keys() == after.keys()
    for key, expires in shown.items():
        assert after[key] - TICK <= expires <= before[key] + TICK


def test_readers_add_up_to_the_same_groups(views: Views) -> None:
    own = views.censuses.pop("netlink")
    assert len(views.censuses) == 3
    assert len(own.servers) >= 3
    assert len(own.destinations) >= 3
    for name, census in views.censuses.items():
        assert census.states == own.states, name
        assert told(census) == told(own), name
        if name != "psutil":  # which shows no timers
            assert census.all.orphans == own.all.orphans or views.restless
    views.censuses["netlink"] = own


def told(census: Census) -> dict[str, object]:
    """Return the groups of a census without the scopes and the numbers that not all show."""
    return {
        "servers": Counter(
            (s.listener.address.partition("%")[0], s.listener.port, s.tally.sockets)
            for s in census.servers
        ),
        "destinations": Counter(
            (d.source.partition("%")[0], d.address.partition("%")[0], d.port, d.sockets)
            for d in census.destinations
        ),
        "fixed": census.fixed.states,
        "left-overs": [(e.port, e.remote_ports, e.tally.sockets) for e in census.left_overs],
    }


def test_readers_agree_on_listeners_without_ipv4(views: Views) -> None:
    assert views.v6only == {"netlink": {8082, 8084}, "pyroute2": {8082, 8084}}


def test_listeners_on_a_port_of_the_kernel_s_are_told_apart(views: Views) -> None:
    asked_for = {8080, 8081, 8082, 8083, 8084, 9100}
    listening = {row.local_port for row in views.before if row.state is State.LISTEN}
    assert views.auto_bound_ports == listening - asked_for
    assert len(views.auto_bound_ports) == 3


def test_bound_sockets_are_those_that_neither_listen_nor_connect(views: Views) -> None:
    assert {row.local_port for row in views.bound} == {7001, 7002}
    assert all(row.state is State.CLOSE and row.inode for row in views.bound)


def test_the_ages_are_those_that_diag_socket_has(views: Views) -> None:
    half_closed = (State.CLOSE_WAIT, State.FIN_WAIT2)
    full = {row.cookie for row in views.before if row.state in half_closed and row.timer != 3}
    assert set(views.ages) == full
    assert len(full) == 9
    for cookie, ages in views.ages.items():
        for ours, raw, later in zip(
            ages, views.raw_ages[cookie], views.ages_after[cookie], strict=True
        ):
            assert ours <= raw <= later


def test_user_ids_are_shown(views: Views) -> None:
    others = [row for row in views.before if row.uid]
    if not others:
        pytest.skip("the namespace has no user but root")
    assert [(row.remote_port, row.uid) for row in others] == [(8083, NOBODY)]


# ss(8).

_TIMER = re.compile(r"timer:\((\w+),([^,]*),(\d+)\)")
_NUMBER = {"on": 1, "keepalive": 2, "timewait": 3, "persist": 4}


def _ss_row(line: str) -> tuple[Socket, float]:
    """Return what a line of `ss -tanoe` says, and how exact its timer is (ms)."""
    state, recv_q, send_q, local, remote, *rest = line.split()
    known = parse_state(state)
    assert known is not None, line
    words = dict(word.split(":", 1) for word in rest if ":" in word)
    match = _TIMER.search(line)
    expires, tolerance = _ss_time(match[2]) if match else (0, 0)
    row = Socket(
        known,
        *_ss_end(local),
        *_ss_end(remote),
        _NUMBER[match[1]] if match else 0,
        expires,
        int(match[3]) if match else 0,
        int(recv_q),
        int(send_q),
        int(words.get("uid", 0)),
        int(words["ino"]),
        int(words["sk"], 16),
    )
    return row, tolerance


def _ss_end(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    address = address.partition("%")[0].strip("[]").removeprefix("::ffff:")
    return "::" if address == "*" else address, 0 if port == "*" else int(port)


def _ss_time(text: str) -> tuple[int, int]:
    """Return the milliseconds of "119min", "1min9sec", "59sec", "9.512ms" or "380ms"."""
    match = re.fullmatch(r"(?:(\d+)min)?(?:(\d+)(?:sec|\.))?(?:(\d+)ms)?", text)
    assert match, text
    minutes, seconds, ms = (int(part or 0) for part in match.groups())
    tolerance = 60_000 if minutes > 9 else 1000 if minutes or seconds > 9 else 0
    return (60 * minutes + seconds) * 1000 + ms, tolerance


def _from_ss(views: Views) -> list[tuple[Socket, float]]:
    if views.ss is None:
        pytest.skip("ss (iproute2) is not installed")
    return list(map(_ss_row, views.ss))


def test_ss_agrees_on_every_field(views: Views) -> None:
    own = [unscoped(row) for row in calm(views, views.before) if row not in views.bound]
    shown = calm(views, [row for row, _ in _from_ss(views)])
    assert Counter(fields(row, ALL) for row in shown) == Counter(fields(row, ALL) for row in own)


def test_ss_agrees_on_when_each_timer_fires(views: Views) -> None:
    before = {ends(row): row.expires for row in views.before}
    after = {ends(row): row.expires for row in views.after}
    for row, tolerance in _from_ss(views):
        if ends(row) in views.restless:
            continue
        low, high = after[ends(row)] - tolerance - TICK, before[ends(row)] + TICK
        assert low <= row.expires <= high
