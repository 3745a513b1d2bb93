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
from twdiag.sources.live.proc import start_of
from twdiag.sources.live.processes.descriptors import TCP_PROTOCOLS, descriptors, protocol
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
    return {pid: _told(pid, seen[pid], states, aged.get(pid)) for pid in seen}, gaps


def _denied(processes: int) -> Gap:
    many = count(processes, "process", "processes")
    why = f"no permission to read the descriptors of {many} near the limit"
    how = "run as root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    return Gap("breakdown", why, how, partial=True)


def _late(processes: int) -> Gap:
    many = count(processes, "process", "processes")
    why = f"there was no time to look at the descriptors of {many} near the limit"
    return Gap("breakdown", why, "run again when the host is calmer", partial=True)


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


def _told(pid: int, seen: _Seen, states: Mapping[int, State], aged: _Aged | None) -> Breakdown:
    known = {inode: states[inode] for inode in seen.sockets if inode in states}
    kinds, nowhere = seen.kinds, 0
    for inode in _still_open(pid, seen.sockets, seen.sockets.keys() - known.keys()):
        if protocol(pid, seen.sockets[inode]) in TCP_PROTOCOLS:
            nowhere += 1
        else:
            kinds["other socket"] += 1
    asked, unguarded = aged or (0, ())
    running = _running(pid) if unguarded else None
    return Breakdown(
        seen.looked, Counter(known.values()), nowhere, kinds, asked, unguarded, running
    )


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
