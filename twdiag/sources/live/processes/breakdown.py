"""Tell what the descriptors of a process are: sockets by state, in no table, files, pipes."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import SourceError
from twdiag.model.snapshot import Breakdown, Gap
from twdiag.model.sockets import TIMER_NONE
from twdiag.model.waits import FdKind
from twdiag.sources.live import rights
from twdiag.sources.live.namespaces.other_tables import Elsewhere, look_elsewhere
from twdiag.sources.live.proc import start_of
from twdiag.sources.live.processes.descriptors import TCP_PROTOCOLS, descriptors, protocol
from twdiag.sources.live.processes.unix_paths import read_unix_paths
from twdiag.sources.live.sockets.netlink import read_established, read_states
from twdiag.tcp import State
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from twdiag.model.sockets import Socket

_USER_HZ: Final = os.sysconf("SC_CLK_TCK")
_MANY: Final = 0.25
"""Live connections that are so large a share of a process's descriptors are asked for their age."""
_MOST_AGED: Final = 1_000
"""Of so many sockets of a process the ages tell enough."""
_CALMER: Final = "run again when the host is calmer"
_LEAST_ELSEWHERE: Final = 0.3
"""So many seconds for the tables of other namespaces, however long the descriptors took."""


class _Seen(NamedTuple):
    """The descriptors of a process: how many, a descriptor for each socket, the others by kind."""

    looked: int
    sockets: Mapping[int, int]
    kinds: Counter[str]


def break_down(
    pids: Collection[int], known: Mapping[int, State], seconds: float = 1.0, *, ages: bool = True
) -> tuple[dict[int, Breakdown], list[Gap]]:
    """Return what the descriptors of some processes are.

    `known` has the states of sockets that are known already, by inode.  It stops after so many
    seconds; a process that may not be read is a gap.
    """
    until = time.monotonic() + seconds
    seen: dict[int, _Seen] = {}
    denied = late = 0
    for pid in pids:
        if time.monotonic() > until:
            late += 1
            continue
        try:
            seen[pid] = _descriptors(pid)
        except PermissionError:
            denied += 1
        except OSError:
            continue
    gaps = [*([_denied(denied)] if denied else []), *([_late(late)] if late else [])]
    try:
        states = _states(seen.values(), known)
    except SourceError as error:
        # Without the tables nobody can say that a socket is in none of them.
        why = f"what the descriptors of crowded processes are is not visible: {error.what}"
        return {}, [*gaps, Gap("breakdown", why, error.next_step, partial=True)]
    aged = _aged(seen, states) if ages else {}
    lost = {pid: _in_no_table(pid, one, states) for pid, one in seen.items()}
    others = _elsewhere(lost, max(_LEAST_ELSEWHERE, until - time.monotonic()))
    told = {pid: _told(pid, seen[pid], states, aged.get(pid), lost[pid], others) for pid in seen}
    uncertain = sum(one.uncertain for one in told.values())
    return told, [*gaps, *([_uncertain(uncertain, others)] if uncertain else [])]


def _denied(processes: int) -> Gap:
    many = count(processes, "process", "processes")
    why = f"no permission to read the descriptors of {many} near the limit"
    how = rights.to_get(*rights.READ_OTHERS)
    return Gap("breakdown", why, how, partial=True)


def _late(processes: int) -> Gap:
    many = count(processes, "process", "processes")
    why = f"there was no time to look at the descriptors of {many} near the limit"
    return Gap("breakdown", why, _CALMER, partial=True)


def _uncertain(sockets: int, others: Elsewhere) -> Gap:
    many = count(sockets, "socket is", "sockets are")
    why = f"{many} in no table here: reset and never closed, or in another network namespace"
    return Gap(
        "breakdown", why, rights.to_get(*rights.ENTER) if others.unread else _CALMER, partial=True
    )


def _descriptors(pid: int) -> _Seen:
    seen = list(descriptors(pid))
    sockets = {d.inode: d.number for d in seen if d.kind is FdKind.SOCKET and d.inode is not None}
    kinds = Counter(d.kind.value for d in seen if d.kind is not FdKind.SOCKET)
    return _Seen(len(seen), sockets, kinds)


def _states(processes: Iterable[_Seen], known: Mapping[int, State]) -> dict[int, State]:
    """Return the states of the processes' sockets; raises SourceError."""
    inodes = {inode for seen in processes for inode in seen.sockets}
    states = {inode: known[inode] for inode in inodes if inode in known}
    return states | read_states(inodes - states.keys())


class _Lost(NamedTuple):
    """The sockets of a process in no table here: TCP ones, Unix ones, how many of other kinds."""

    tcp: frozenset[int]
    unix: frozenset[int]
    other: int


class _Aged(NamedTuple):
    """The live connections of a process that were asked for their ages, and those unguarded."""

    asked: int
    unguarded: tuple[Socket, ...]


def _aged(processes: Mapping[int, _Seen], states: Mapping[int, State]) -> dict[int, _Aged]:
    """Return the ages of live connections where they are many of a process's descriptors."""
    asked: dict[int, list[int]] = {}
    for pid, seen in processes.items():
        live = [inode for inode in seen.sockets if states.get(inode) is State.ESTABLISHED]
        if live and len(live) >= _MANY * seen.looked:
            asked[pid] = live[:: -(-len(live) // _MOST_AGED)]
    if not asked:
        return {}
    try:
        found = read_established({inode for inodes in asked.values() for inode in inodes})
    except SourceError:
        return {}
    by_inode = {socket.inode: socket for socket in found}
    return {pid: _sorted_out([by_inode[i] for i in asked[pid] if i in by_inode]) for pid in asked}


def _sorted_out(sockets: list[Socket]) -> _Aged:
    unguarded = (s for s in sockets if s.timer == TIMER_NONE and s.info is not None)
    return _Aged(len(sockets), tuple(unguarded))


def _in_no_table(pid: int, seen: _Seen, states: Mapping[int, State]) -> _Lost:
    """Return the sockets of a process that are in no table here, those just closed left out."""
    tcp, unix, others = set[int](), set[int](), 0
    for inode in _still_open(pid, seen.sockets, seen.sockets.keys() - states.keys()):
        name = protocol(pid, seen.sockets[inode]) or b""
        if name in TCP_PROTOCOLS:
            tcp.add(inode)
        elif name.startswith(b"UNIX"):
            unix.add(inode)
        else:
            others += 1
    return _Lost(frozenset(tcp), frozenset(unix), others)


def _elsewhere(lost: Mapping[int, _Lost], seconds: float) -> Elsewhere:
    """Return which of the sockets are in tables of other namespaces."""
    holders = [pid for pid, one in lost.items() if one.tcp]
    if not holders:
        return Elsewhere()
    return look_elsewhere(frozenset().union(*(one.tcp for one in lost.values())), holders, seconds)


def _told(
    pid: int,
    seen: _Seen,
    states: Mapping[int, State],
    aged: _Aged | None,
    lost: _Lost,
    others: Elsewhere,
) -> Breakdown:
    if lost.other:
        seen.kinds["other socket"] += lost.other
    if lost.unix:
        seen.kinds["Unix socket"] = len(lost.unix)
    many_unix = len(lost.unix) >= _MANY * seen.looked
    elsewhere = len(lost.tcp & others.inodes)
    left = len(lost.tcp) - elsewhere
    asked, unguarded = aged or (0, ())
    return Breakdown(
        seen.looked,
        Counter(states[inode] for inode in seen.sockets if inode in states),
        left if others.complete else 0,
        seen.kinds,
        asked,
        unguarded,
        _running(pid) if unguarded else None,
        elsewhere,
        0 if others.complete else left,
        others.hidden,
        _commonest(read_unix_paths(pid, lost.unix)) if lost.unix and many_unix else "",
    )


def _commonest(paths: Counter[str]) -> str:
    """Return the path of most of some Unix sockets, "" where none stands out."""
    path, number = next(iter(paths.most_common(1)), ("", 0))
    return path if number > paths.total() / 2 else ""


def _running(pid: int) -> float | None:
    """Return for how long (s) a process has run, None where that cannot be read."""
    ticks = start_of(pid)
    return None if ticks is None else time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _USER_HZ


def _still_open(pid: int, sockets: Mapping[int, int], inodes: Iterable[int]) -> list[int]:
    """Return the inodes that are still behind the same descriptors: others were just closed."""
    found = []
    for inode in inodes:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{sockets[inode]}")
        except OSError:
            continue
        if link == f"socket:[{inode}]":
            found.append(inode)
    return found
