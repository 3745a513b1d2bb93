"""Tell what the descriptors of a process are: sockets by state, in no table, files, pipes."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from twdiag.model.snapshot import Breakdown, Gap
from twdiag.model.waits import FdKind
from twdiag.sources.live.descriptors import TCP_PROTOCOLS, descriptors, protocol
from twdiag.sources.live.endpoints import read_endpoints

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from twdiag.tcp import State


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
