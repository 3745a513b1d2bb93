"""Tell what the descriptors of a process are: sockets by state, in no table, files, pipes."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from twdiag.model.snapshot import Breakdown, Gap
from twdiag.model.waits import FdKind
from twdiag.sources.live.descriptors import TCP_PROTOCOLS, descriptors, protocol
from twdiag.sources.live.endpoints import look_up
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

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
    denied = unfinished = 0
    for pid in pids:
        try:
            seen = _broken_down(pid, known) if time.monotonic() <= until else None
        except PermissionError:
            denied += 1
        except OSError:
            continue
        else:
            unfinished += seen is None
            if seen is not None:
                found[pid] = seen
    return found, [*_denied(denied), *_unfinished(unfinished)]


def _denied(processes: int) -> Iterator[Gap]:
    if processes:
        of_them = count(processes, "process", "processes")
        why = f"no permission to read the descriptors of {of_them} near the limit"
        how = "run as root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        yield Gap("breakdown", why, how, partial=True)


def _unfinished(processes: int) -> Iterator[Gap]:
    if processes:
        of_them = count(processes, "process", "processes")
        why = f"the sockets of {of_them} near the limit of descriptors could not all be looked up"
        yield Gap(
            "breakdown", why, "allow netlink; run again when the host is calmer", partial=True
        )


def _broken_down(pid: int, known: Mapping[int, State]) -> Breakdown | None:
    """Return what the descriptors of a process are, None where not all sockets could be read.

    Then nobody knows which of them are in no table.
    """
    seen = list(descriptors(pid))
    sockets = {d.inode: d.number for d in seen if d.kind is FdKind.SOCKET and d.inode is not None}
    states = {inode: known[inode] for inode in sockets if inode in known}
    rest = sockets.keys() - states.keys()
    connected = look_up(rest)
    if not connected.complete:
        return None
    states.update({inode: row.state for inode, row in connected.found.items()})
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
