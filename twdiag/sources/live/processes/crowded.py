"""Find the processes of this namespace that near their limit of descriptors."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Final

from twdiag.model.snapshot import Gap
from twdiag.named import NamedTuple
from twdiag.sources.live.proc import all_pids
from twdiag.sources.live.processes.headroom import counts_descriptors, descriptor_headroom

if TYPE_CHECKING:
    from collections.abc import Collection

    from twdiag.model.snapshot import Owner
    from twdiag.sources.live.processes.headroom import Headroom

_FEW: Final = 48
"""A process with fewer descriptors than this is not looked at: it costs one system call."""
_SHARE: Final = 0.5
_MOST: Final = 20
MANY: Final = 1_000
"""From so many sockets in no table on, a process is sought that may have them."""


class Crowded(NamedTuple):
    """The processes with half of their descriptors in use or more, the fullest first.

    Behind them come those that may hold most of the host's sockets that are in no table.
    `fullest` is the share that the fullest of all processes uses, None where nobody can tell.
    """

    owners: tuple[Owner, ...] = ()
    fullest: float | None = None
    gaps: tuple[Gap, ...] = ()


def read_crowded(processes: Collection[int] | None = None, unlisted: int = 0) -> Crowded:
    """Return the crowded processes of a network namespace; before Linux 6.2 a gap says so.

    They are looked for among its `processes`, else among those of this process's own namespace.
    `unlisted` is how many sockets of the host at most are in no table.
    """
    if not counts_descriptors():
        why = "how many descriptors processes have open is not visible before Linux 6.2"
        return Crowded(gaps=(Gap("descriptors", why, "", partial=True),))
    pids = all_pids() if processes is None else processes
    found = descriptor_headroom(pids, _FEW)
    fullest_first = sorted(found, key=lambda pid: -_share(found[pid]))
    ours = (pid for pid in fullest_first if processes is not None or _is_here(pid))
    fullest = next(ours, None)
    if fullest is None:
        return Crowded(fullest=0.0)
    owners: list[Owner] = []
    least = max(MANY, unlisted / 2) if unlisted >= MANY else math.inf
    if _share(found[fullest]) >= _SHARE or any(seen.open >= least for seen in found.values()):
        owners = _described([fullest, *ours], found, least)
    return Crowded(tuple(owners), _share(found[fullest]))


def _share(headroom: Headroom) -> float:
    return headroom.open / headroom.limit if headroom.limit else 0.0


def _described(pids: list[int], found: dict[int, Headroom], least: float) -> list[Owner]:
    # psutil is loaded only where there is somebody to describe.
    from twdiag.sources.live.processes.owners import describe

    users: dict[int, str] = {}
    crowded = [pid for pid in pids if _share(found[pid]) >= _SHARE or found[pid].open >= least][
        :_MOST
    ]
    owners = (describe(pid, found[pid].open, users) for pid in crowded)
    return [owner for owner in owners if owner is not None]


def _is_here(pid: int) -> bool:
    """Return whether a process is in this network namespace; that needs no right either."""
    try:
        return os.stat(f"/proc/{pid}/net/tcp").st_ino == os.stat("/proc/self/net/tcp").st_ino
    except OSError:
        return False
