"""Find the processes that near their limit of descriptors, and what the descriptors are.

That a process has many open is seen without any right (Linux 6.2); what they are takes the rights
of its owner.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from twdiag.model.snapshot import Breakdown, Gap
from twdiag.model.waits import FdKind
from twdiag.sources.live.descriptors import (
    TCP_PROTOCOLS,
    counts_descriptors,
    descriptor_headroom,
    descriptors,
    protocol,
)
from twdiag.sources.live.endpoints import read_endpoints
from twdiag.sources.live.owners import describe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from twdiag.model.snapshot import Owner
    from twdiag.tcp import State

_FEW: Final = 48
"""A process with fewer descriptors than this is not looked at: that costs it one system call."""
_SHARE: Final = 0.5
_MOST: Final = 20


def read_crowded() -> tuple[tuple[Owner, ...] | None, list[Gap]]:
    """Return the processes of this namespace with half of their descriptors in use or more.

    The fullest come first, and the fullest of all is there whatever it uses.  None, and a gap,
    before Linux 6.2.
    """
    if not counts_descriptors():
        why = "how many descriptors processes have open is not visible before Linux 6.2"
        return None, [Gap("descriptors", why, "", partial=True)]
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    shares = {
        pid: headroom.open / headroom.limit
        for pid, headroom in descriptor_headroom(pids, _FEW).items()
        if headroom.limit
    }
    home = _namespace("self")
    found: list[Owner] = []
    users: dict[int, str] = {}
    for pid, share in sorted(shares.items(), key=lambda item: -item[1]):
        if (share < _SHARE and found) or len(found) == _MOST:
            break
        if _namespace(str(pid)) != home:
            continue
        owner = describe(pid, _open(pid), users)
        if owner is not None:
            found.append(owner)
    return tuple(found), []


def _open(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/fd").st_size
    except OSError:
        return None


def _namespace(pid: str) -> int | None:
    """Return what tells a process's network namespace from others; no right is needed for it."""
    try:
        return os.stat(f"/proc/{pid}/net/tcp").st_ino
    except OSError:
        return None


def break_down(
    pids: Collection[int], known: Mapping[int, State], seconds: float = 1.0
) -> tuple[dict[int, Breakdown], list[Gap]]:
    """Return what the descriptors of some processes are.

    `known` has the states of sockets that are known already, by inode.  It stops after so many
    seconds; a process that may not be read is a gap.
    """
    until = time.monotonic() + seconds
    found: dict[int, Breakdown] = {}
    denied = 0
    for pid in pids:
        if time.monotonic() > until:
            break
        try:
            found[pid] = _broken_down(pid, known)
        except PermissionError:
            denied += 1
        except OSError:
            continue
    if not denied:
        return found, []
    processes = "1 process" if denied == 1 else f"{denied} processes"
    why = f"no permission to read the descriptors of {processes} near the limit"
    how = "run as root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    return found, [Gap("breakdown", why, how, partial=True)]


def _broken_down(pid: int, known: Mapping[int, State]) -> Breakdown:
    seen = list(descriptors(pid))
    sockets = {d.inode: d.number for d in seen if d.kind is FdKind.SOCKET and d.inode is not None}
    states = {inode: known[inode] for inode in sockets if inode in known}
    rest = sockets.keys() - states.keys()
    states.update({inode: row.state for inode, row in read_endpoints(rest).items()})
    kinds = Counter(d.kind.value for d in seen if d.kind is not FdKind.SOCKET)
    nowhere = 0
    for inode in _still_open(pid, sockets, rest - states.keys()):
        if protocol(pid, sockets[inode]) in TCP_PROTOCOLS:
            nowhere += 1
        else:
            kinds["other socket"] += 1
    return Breakdown(len(seen), Counter(states.values()), nowhere, kinds)


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
