"""Where a Snapshot comes from: readers of sockets, counters, sysctls and owners."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, UsageError
from twdiag.model.snapshot import Gap, Host, Pace, Snapshot
from twdiag.named import NamedTuple
from twdiag.sources.live.netfilter.conntrack import read_conntrack
from twdiag.sources.live.proc import OPTIONAL_SYSCTLS, SYSCTLS, read_counters, read_sysctls
from twdiag.sources.live.processes.crowded import read_crowded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from twdiag.model.census import History
    from twdiag.model.snapshot import Breakdown, Owner
    from twdiag.sources.live.sockets.seen import Seen

_FEW_CLOSES: Final = 20
_WATCHED: Final = 10
_NEARLY_FULL: Final = 0.95
SHORTEST_PACE: Final = 0.1
"""Counters tell nothing of what happens in less time, in seconds."""

_ENOUGH_EVENTS: Final = 100
"""So many closes are counted to within a third (three standard deviations)."""

_TABLE_PATIENCE: Final = 2
"""A large conntrack table may take twice as long as the counters are watched; 0.5 s, 150,000
entries, in a check."""

SOURCES: Final = ("auto", "netlink", "pyroute2", "psutil", "proc")
"""The readers of sockets that --source names; auto is netlink, then proc."""


SHORT_PATIENCE: Final = 0.25
"""How long to watch the counters of a host on which connections close, in seconds."""


class OneOfMany(NamedTuple):
    """What is known beforehand of one namespace of many: its processes.

    `unconnected` is how many sockets of the host are in no table of connections at most, None where
    that is not known.
    """

    processes: Collection[int]
    unconnected: int | None = None


def collect(
    source: str = "auto",
    patience: float = SHORT_PATIENCE,
    one_of_many: OneOfMany | None = None,
) -> Snapshot:
    """Return what can be seen of this network namespace now, owners left out.

    Cheap things first.  Where connections close, the counters are read again, `patience` seconds
    later at most: rows alone do not show closes whose TIME_WAIT was replaced or refused.  With 0
    the caller does that (see paced()).  Of `one_of_many` namespaces that is not read which the
    kernel would search all others for in vain.  Raises SourceError where no reader of sockets
    works.
    """
    counters, sockstat, gaps = read_counters()
    counted_at = time.monotonic()
    sysctls, more_gaps = read_sysctls()
    taken_at = time.time()
    name, seen, refusal = _read_sockets(source, sysctls, sockstat, one_of_many)
    kernel = os.uname()
    processes = one_of_many.processes if one_of_many else None
    crowded = read_crowded(processes, _unlisted(sockstat, one_of_many))
    closes = seen.census.all.time_wait
    pace = _pace(counters, counted_at, closes, sysctls, patience) if patience else None
    conntrack, unseen = read_conntrack(_TABLE_PATIENCE * (patience or SHORT_PATIENCE))
    return Snapshot(
        taken_at=taken_at,
        host=Host(kernel.nodename, kernel.release),
        source=name,
        census=seen.census,
        counters={**counters, **(conntrack.counted if conntrack else {})},
        sockstat=sockstat,
        sysctls=sysctls,
        crowded=crowded.owners,
        fullest=crowded.fullest,
        gaps=(*gaps, *more_gaps, *refusal, *seen.gaps, *crowded.gaps, *unseen),
        pace=pace,
        conntrack=conntrack,
    )


def _unlisted(sockstat: Mapping[str, int], one_of_many: OneOfMany | None) -> int:
    """Return how many sockets of the host at most are in no table of this namespace."""
    if one_of_many is not None:
        return one_of_many.unconnected or 0
    in_use = sockstat.get("TCP.inuse", 0) + sockstat.get("TCP6.inuse", 0)
    return max(0, sockstat.get("TCP.alloc", 0) - in_use)


def collect_outside(processes: Collection[int], table: int | None) -> Snapshot:
    """Return what /proc/PID/net shows to anybody of a namespace that may not be entered.

    There are states, timers and counters, but no sysctls, and so no budgets; no ages, backlogs and
    bound sockets.  `table` is the number of its /proc/PID/net/tcp, by which a process is known that
    has not ended.  Raises SourceError where all of them have.
    """
    from twdiag.sources.live import rights
    from twdiag.sources.live.sockets.proc_tcp import read_proc

    for pid in processes:
        root = f"/proc/{pid}/net"
        try:
            seen = read_proc({}, root)
            counters, sockstat, gaps = read_counters(root)
            same = os.stat(f"{root}/tcp").st_ino == table
        except (SourceError, OSError):
            continue
        if same:
            break
    else:
        raise SourceError("its processes have ended", "run again")
    crowded, kernel = read_crowded(processes), os.uname()
    unseen = [
        Gap(
            name,
            f"{name} of another namespace is not visible from outside",
            rights.to_get(*rights.ENTER),
        )
        for name in SYSCTLS
        if name not in OPTIONAL_SYSCTLS
    ]
    return Snapshot(
        taken_at=time.time(),
        host=Host(kernel.nodename, kernel.release),
        source="proc",
        census=seen.census,
        counters=counters,
        sockstat=sockstat,
        crowded=crowded.owners,
        fullest=crowded.fullest,
        gaps=(*gaps, *unseen, *seen.gaps, *crowded.gaps),
    )


def is_closing(snapshot: Snapshot) -> bool:
    """Return whether enough connections close for the kernel's counters to be worth a look."""
    return bool(snapshot.counters) and _is_closing(snapshot.census.all.time_wait, snapshot.sysctls)


def paced(snapshot: Snapshot, counted_at: float, root: str) -> Snapshot:
    """Return the snapshot with how the counters of its /proc/PID/net have grown since."""
    after, _, _ = read_counters(root)
    return snapshot._replace(pace=_grown(snapshot.counters, after, counted_at))


def _pace(
    before: Mapping[str, int],
    counted_at: float,
    closes: History,
    sysctls: Mapping[str, str],
    patience: float,
) -> Pace | None:
    """Return how the counters have grown since, None where hardly any connection closes."""
    if not before or not _is_closing(closes, sysctls):
        return None
    latest = _latest(closes)
    window = min(patience, max(SHORTEST_PACE, _ENOUGH_EVENTS / latest)) if latest else patience
    time.sleep(max(0.0, counted_at + window - time.monotonic()))
    after, _, _ = read_counters()
    return _grown(before, after, counted_at)


def _is_closing(closes: History, sysctls: Mapping[str, str]) -> bool:
    """Return whether enough connections close, or none can be seen to: the table is full.

    In a full table no TIME_WAIT begins any more, however many connections close.
    """
    most = sysctls.get("net.ipv4.tcp_max_tw_buckets", "")
    full = most.isdecimal() and closes.total >= _NEARLY_FULL * int(most)
    return _latest(closes) > 0 or bool(full and closes.total)


def _latest(closes: History) -> float:
    """Return the closes per second of the last seconds, 0 where there are hardly any."""
    return 0.0 if closes.total < _FEW_CLOSES else sum(closes.seconds[-_WATCHED:]) / _WATCHED


def _grown(before: Mapping[str, int], after: Mapping[str, int], counted_at: float) -> Pace:
    grown = {name: after[name] - value for name, value in before.items() if name in after}
    return Pace(time.monotonic() - counted_at, grown)


def find_owners(
    snapshot: Snapshot, inodes: Collection[int], seconds: float = math.inf
) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
    """Return the owners of these socket inodes, as far as they can be seen, and what was not seen.

    The search gives up after so many seconds and says so.
    """
    return find_owners_in((snapshot,), inodes, seconds)


def find_owners_in(
    snapshots: Iterable[Snapshot], inodes: Collection[int], seconds: float = math.inf
) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
    """Return the same for the sockets of several namespaces: one search finds them all."""
    if not inodes:
        return {}, []
    from twdiag.sources.live.processes.owners import read_owners

    wanted = set(inodes)
    sockets = (socket for snapshot in snapshots for socket in snapshot.census.sockets)
    holders = [socket for socket in sockets if socket.inode in wanted]
    cgroups = {socket.cgroup for socket in holders if socket.cgroup}
    return read_owners(wanted, cgroups, {socket.uid for socket in holders}, seconds)


def break_down(
    snapshot: Snapshot, pids: Collection[int], seconds: float = 1.0
) -> tuple[dict[int, Breakdown], list[Gap]]:
    """Return what the descriptors of these processes are, and what was not seen."""
    if not pids:
        return {}, []
    from twdiag.sources.live.processes import breakdown

    known = {socket.inode: socket.state for socket in snapshot.census.sockets if socket.inode}
    ages = "tcp-info" not in snapshot.missing
    return breakdown.break_down(pids, known, seconds, ages=ages)


def _read_sockets(
    source: str,
    sysctls: Mapping[str, str],
    sockstat: Mapping[str, int],
    one_of_many: OneOfMany | None,
) -> tuple[str, Seen, list[Gap]]:
    """Return (reader's name, what it saw, gaps of readers tried in vain)."""
    if source not in ("auto", "netlink"):
        return source, _read_with(source, sysctls), []
    from twdiag.sources.live.sockets.netlink import read_netlink

    if one_of_many and one_of_many.unconnected is not None:
        # What the kernel has allocated is a number of the host, and hardly says anything of one.
        in_use = sockstat.get("TCP.inuse", 0) + sockstat.get("TCP6.inuse", 0)
        sockstat = {**sockstat, "TCP.alloc": in_use + one_of_many.unconnected}
    try:
        return "netlink", read_netlink(sysctls, sockstat, one_of_many=bool(one_of_many)), []
    except SourceError as error:
        if source == "netlink":
            raise
        refused = error
    from twdiag.sources.live.sockets.proc_tcp import read_proc

    try:
        seen = read_proc(sysctls)
    except SourceError as error:
        raise SourceError(
            f"no source of socket states can be read: {refused.what}; {error.what}",
            f"{refused.next_step}; {error.next_step}",
        ) from error
    gap = Gap("netlink", f"{refused.what}; /proc/net/tcp was read instead", refused.next_step)
    return "proc", seen, [gap]


def _read_with(source: str, sysctls: Mapping[str, str]) -> Seen:
    if source == "proc":
        from twdiag.sources.live.sockets.proc_tcp import read_proc

        return read_proc(sysctls)
    if source == "psutil":
        from twdiag.sources.live.sockets.psutil_reader import read_psutil

        return read_psutil(sysctls)
    if source == "pyroute2":
        from twdiag.sources.live.sockets.pyroute2_reader import read_pyroute2

        return read_pyroute2(sysctls)
    raise UsageError(f"there is no source {source!r}", f"use one of {', '.join(SOURCES)}")
