"""Ask the tables of all other network namespaces for sockets that are in none of this one.

A socket stays in the namespace that it was opened in, wherever its process goes and whoever gets
its descriptor.  A namespace that neither a process, a mount nor a descriptor of the holder keeps,
but its sockets alone, is found by nobody.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import SourceError
from twdiag.model.namespaces import Namespace
from twdiag.sources.live.namespaces.going_round import visit
from twdiag.sources.live.namespaces.search import find_namespaces, inode_of, read_usage
from twdiag.sources.live.sockets.netlink import read_states
from twdiag.sources.live.sockets.proc_tcp import stream_proc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from twdiag.model.snapshot import Gap

_NET: Final = re.compile(r"net:\[(\d{1,10})\]", re.ASCII)
_MOST_THREADS: Final = 1_000


class Elsewhere(NamedTuple):
    """The sockets that are in tables of other namespaces.

    `unread` tells that a namespace was found whose tables could not be read; `hidden` that this
    process may not see all namespaces.
    """

    inodes: frozenset[int] = frozenset()
    unread: bool = False
    hidden: bool = False


def look_elsewhere(inodes: Collection[int], holders: Iterable[int], seconds: float) -> Elsewhere:
    """Return which of these sockets are in a table of another namespace than this one.

    `holders` are the processes that hold them: they may have other namespaces open, and threads
    in others.  It begins no look into a namespace once so many seconds have passed.
    """
    sought = frozenset(inodes)
    found = find_namespaces()
    others = [namespace for namespace in found.namespaces if not namespace.own]
    known = {n.inode for n in found.namespaces} | {n.table for n in found.namespaces}
    for pid in holders:
        for namespace in (*_held_open(pid), *_of_threads(pid)):
            if not {namespace.inode, namespace.table} - {None} & known:
                known |= {namespace.inode, namespace.table}
                others.append(namespace)

    def sockets_in(_: Namespace) -> frozenset[int]:
        return frozenset(read_states(sought))

    def from_outside(namespace: Namespace) -> frozenset[int]:
        return _from_outside(namespace) & sought

    inside, unread = set[int](), False
    for one in visit(tuple(others), sockets_in, seconds, from_outside=from_outside):
        inside |= one.result or frozenset()
        unread |= one.why_not not in ("", "gone")
    return Elsewhere(frozenset(inside), unread, bool(found.gaps))


def _held_open(pid: int) -> Iterator[Namespace]:
    """Yield the network namespaces of which a process has a descriptor."""
    folder = f"/proc/{pid}/fd"
    for name in _names(folder):
        match = _NET.fullmatch(_link(f"{folder}/{name}"))
        if match:
            yield Namespace(f"descriptor {name}", None, int(match[1]), paths=(f"{folder}/{name}",))


def _of_threads(pid: int) -> Iterator[Namespace]:
    """Yield the network namespaces that threads of a process are in."""
    for name in _names(f"/proc/{pid}/task")[:_MOST_THREADS]:
        root = f"/proc/{pid}/task/{name}/net"
        table = inode_of(f"{root}/tcp")
        if table is not None:
            yield Namespace(f"thread {name}", table, pids=(int(name),), usage=read_usage(root))


def _from_outside(namespace: Namespace) -> frozenset[int]:
    """Return the sockets that /proc/PID/net shows of a namespace that may not be entered."""
    for pid in namespace.pids:
        gaps: list[Gap] = []
        seen = stream_proc(gaps, f"/proc/{pid}/net")
        found = frozenset(socket.inode for socket in (*seen.listening, *seen.connected))
        if any(gap.what == "sockets" for gap in gaps):
            raise SourceError(f"not all sockets of {namespace.label} are visible")
        if inode_of(f"/proc/{pid}/net/tcp") == namespace.table:
            return found
    raise SourceError("its processes have ended", "run again")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
