"""Where a Snapshot comes from: readers of sockets, counters, sysctls and owners."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.census.columns import positions
from twdiag.census.table import TIMER_TIME_WAIT
from twdiag.errors import SourceError, UsageError
from twdiag.model import Gap, Host, Snapshot
from twdiag.sources.live.proc import read_counters, read_sysctls

if TYPE_CHECKING:
    from collections.abc import Collection

    from twdiag.sources.live.seen import Seen

_IS_FULL: Final = bytes(timer != TIMER_TIME_WAIT for timer in range(256))
SOURCES: Final = ("auto", "netlink", "pyroute2", "psutil", "proc")
"""The readers of sockets that --source names; auto is netlink, then proc."""


def collect(source: str = "auto") -> Snapshot:
    """Return what can be seen of this network namespace now, owners left out.

    Cheap things first.  Raises SourceError where no reader of sockets works.
    """
    counters, sockstat, gaps = read_counters()
    sysctls, more_gaps = read_sysctls()
    taken_at = time.time()
    name, seen, refusal = _read_sockets(source)
    kernel = os.uname()
    return Snapshot(
        taken_at=taken_at,
        host=Host(kernel.nodename, kernel.release),
        source=name,
        sockets=seen.table,
        counters=counters,
        sockstat=sockstat,
        sysctls=sysctls,
        tcp_info=seen.tcp_info,
        auto_bound=seen.auto_bound,
        cgroups=seen.cgroups,
        gaps=(*gaps, *more_gaps, *refusal, *seen.gaps),
    )


def add_owners(snapshot: Snapshot, inodes: Collection[int], seconds: float = math.inf) -> Snapshot:
    """Return the snapshot with the owners of these socket inodes, as far as they can be seen.

    The search gives up after so many seconds and says so.
    """
    if not inodes:
        return snapshot
    from twdiag.sources.live.owners import read_owners

    table = snapshot.sockets
    wanted = set(inodes)
    full = table.timer.tobytes().translate(_IS_FULL)
    uids = {table.uid[row] for row in positions(full) if table.inode[row] in wanted}
    cgroups = {snapshot.cgroups[inode] for inode in wanted if inode in snapshot.cgroups}
    return snapshot.with_owners(*read_owners(wanted, cgroups, uids, seconds))


def _read_sockets(source: str) -> tuple[str, Seen, list[Gap]]:
    """Return (reader's name, what it saw, gaps of readers tried in vain)."""
    if source != "auto":
        return source, _read_with(source), []
    try:
        return "netlink", _read_with("netlink"), []
    except SourceError as error:
        refused = error
    try:
        seen = _read_with("proc")
    except SourceError as error:
        raise SourceError(
            f"no source of socket states can be read: {refused.what}; {error.what}",
            f"{refused.next_step}; {error.next_step}",
        ) from error
    gap = Gap("netlink", f"{refused.what}; /proc/net/tcp was read instead", refused.next_step)
    return "proc", seen, [gap]


def _read_with(source: str) -> Seen:
    if source == "netlink":
        from twdiag.sources.live.netlink import read_netlink

        return read_netlink()
    if source == "proc":
        from twdiag.sources.live.proc import read_proc

        return read_proc()
    if source == "psutil":
        from twdiag.sources.live.psutil_reader import read_psutil

        return read_psutil()
    if source == "pyroute2":
        from twdiag.sources.live.pyroute2_reader import read_pyroute2

        return read_pyroute2()
    raise UsageError(f"there is no source {source!r}", f"use one of {', '.join(SOURCES)}")
