"""Where a Snapshot comes from: readers of sockets, counters, sysctls and owners."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, UsageError
from twdiag.model.snapshot import Gap, Host, Pace, Snapshot
from twdiag.sources.live.crowded import read_crowded
from twdiag.sources.live.proc import read_counters, read_sysctls

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twdiag.model.census import History
    from twdiag.model.snapshot import Breakdown, Owner
    from twdiag.sources.live.seen import Seen

_FEW_CLOSES: Final = 20
_WATCHED: Final = 10
_SHORTEST: Final = 0.1
_ENOUGH_EVENTS: Final = 100
"""So many closes are counted to within a third (three standard deviations)."""

SOURCES: Final = ("auto", "netlink", "pyroute2", "psutil", "proc")
"""The readers of sockets that --source names; auto is netlink, then proc."""


SHORT_PATIENCE: Final = 0.25
"""How long to watch the counters of a host on which connections close, in seconds."""


def collect(source: str = "auto", patience: float = SHORT_PATIENCE) -> Snapshot:
    """Return what can be seen of this network namespace now, owners left out.

    Cheap things first.  Where connections close, the counters are read again, `patience` seconds
    later at most: rows alone do not show closes whose TIME_WAIT was replaced or refused.  Without
    patience (0) they are not.  Raises SourceError where no reader of sockets works.
    """
    counters, sockstat, gaps = read_counters()
    counted_at = time.monotonic()
    sysctls, more_gaps = read_sysctls()
    taken_at = time.time()
    name, seen, refusal = _read_sockets(source, sysctls, sockstat)
    kernel = os.uname()
    crowded = read_crowded()
    return Snapshot(
        taken_at=taken_at,
        host=Host(kernel.nodename, kernel.release),
        source=name,
        census=seen.census,
        counters=counters,
        sockstat=sockstat,
        sysctls=sysctls,
        crowded=crowded.owners,
        fullest=crowded.fullest,
        gaps=(*gaps, *more_gaps, *refusal, *seen.gaps, *crowded.gaps),
        pace=_pace(counters, counted_at, seen.census.all.time_wait, patience),
    )


def _pace(
    before: Mapping[str, int], counted_at: float, closes: History, patience: float
) -> Pace | None:
    """Return how the counters have grown since, None where hardly any connection closes."""
    latest = sum(closes.seconds[-_WATCHED:]) / _WATCHED
    if not patience or closes.total < _FEW_CLOSES or not latest or not before:
        return None
    window = min(patience, max(_SHORTEST, _ENOUGH_EVENTS / latest))
    time.sleep(max(0.0, counted_at + window - time.monotonic()))
    after, _, _ = read_counters()
    grown = {name: after[name] - value for name, value in before.items() if name in after}
    return Pace(time.monotonic() - counted_at, grown)


def find_owners(
    snapshot: Snapshot, inodes: Collection[int], seconds: float = math.inf
) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
    """Return the owners of these socket inodes, as far as they can be seen, and what was not seen.

    The search gives up after so many seconds and says so.
    """
    if not inodes:
        return {}, []
    from twdiag.sources.live.owners import read_owners

    wanted = set(inodes)
    holders = [socket for socket in snapshot.census.sockets if socket.inode in wanted]
    cgroups = {socket.cgroup for socket in holders if socket.cgroup}
    return read_owners(wanted, cgroups, {socket.uid for socket in holders}, seconds)


def break_down(
    snapshot: Snapshot, pids: Collection[int], seconds: float = 1.0
) -> tuple[dict[int, Breakdown], list[Gap]]:
    """Return what the descriptors of these processes are, and what was not seen."""
    if not pids:
        return {}, []
    from twdiag.sources.live import breakdown

    known = {socket.inode: socket.state for socket in snapshot.census.sockets if socket.inode}
    return breakdown.break_down(pids, known, seconds)


def _read_sockets(
    source: str, sysctls: Mapping[str, str], sockstat: Mapping[str, int]
) -> tuple[str, Seen, list[Gap]]:
    """Return (reader's name, what it saw, gaps of readers tried in vain)."""
    if source != "auto":
        return source, _read_with(source, sysctls, sockstat), []
    try:
        return "netlink", _read_with("netlink", sysctls, sockstat), []
    except SourceError as error:
        refused = error
    try:
        seen = _read_with("proc", sysctls, sockstat)
    except SourceError as error:
        raise SourceError(
            f"no source of socket states can be read: {refused.what}; {error.what}",
            f"{refused.next_step}; {error.next_step}",
        ) from error
    gap = Gap("netlink", f"{refused.what}; /proc/net/tcp was read instead", refused.next_step)
    return "proc", seen, [gap]


def _read_with(source: str, sysctls: Mapping[str, str], sockstat: Mapping[str, int]) -> Seen:
    if source == "netlink":
        from twdiag.sources.live.netlink import read_netlink

        return read_netlink(sysctls, sockstat)
    if source == "proc":
        from twdiag.sources.live.proc import read_proc

        return read_proc(sysctls)
    if source == "psutil":
        from twdiag.sources.live.psutil_reader import read_psutil

        return read_psutil(sysctls)
    if source == "pyroute2":
        from twdiag.sources.live.pyroute2_reader import read_pyroute2

        return read_pyroute2(sysctls)
    raise UsageError(f"there is no source {source!r}", f"use one of {', '.join(SOURCES)}")
