"""Where a Snapshot comes from: readers of sockets, counters, sysctls and owners."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, UsageError
from twdiag.model.snapshot import Gap, Host, Snapshot
from twdiag.sources.live.proc import read_counters, read_sysctls

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twdiag.model.snapshot import Owner
    from twdiag.sources.live.seen import Seen

SOURCES: Final = ("auto", "netlink", "pyroute2", "psutil", "proc")
"""The readers of sockets that --source names; auto is netlink, then proc."""


def collect(source: str = "auto") -> Snapshot:
    """Return what can be seen of this network namespace now, owners left out.

    Cheap things first.  Raises SourceError where no reader of sockets works.
    """
    counters, sockstat, gaps = read_counters()
    sysctls, more_gaps = read_sysctls()
    taken_at = time.time()
    name, seen, refusal = _read_sockets(source, sysctls, sockstat)
    kernel = os.uname()
    return Snapshot(
        taken_at=taken_at,
        host=Host(kernel.nodename, kernel.release),
        source=name,
        census=seen.census,
        counters=counters,
        sockstat=sockstat,
        sysctls=sysctls,
        gaps=(*gaps, *more_gaps, *refusal, *seen.gaps),
    )


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
