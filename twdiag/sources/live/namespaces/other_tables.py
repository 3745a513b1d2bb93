"""Ask the tables of all other network namespaces for sockets that are in none of this one.

A socket stays in the namespace that it was opened in, wherever its process goes and whoever gets
its descriptor.  A namespace that neither a process, a mount nor a descriptor of the holder keeps,
but its sockets alone, is found by nobody.
"""

from __future__ import annotations

import os
import re
import time
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

    `unread` tells that a namespace was found whose tables may not be read, `late` that there was
    no time for one; `hidden` that there may be some that this process cannot see.
    """

    inodes: frozenset[int] = frozenset()
    unread: bool = False
    late: bool = False
    hidden: bool = False

    @property
    def complete(self) -> bool:
        """Whether the tables of every namespace that was found were read."""
        return not (self.unread or self.late)


def look_elsewhere(inodes: Collection[int], holders: Iterable[int], seconds: float) -> Elsewhere:
    """Return which of these sockets are in a table of another namespace than this one.

    `holders` are the processes that hold them: the namespaces that they have open, or have threads
    in, come first.  It begins no look into a namespace once so many seconds have passed: beside
    300,000 TIME_WAITs each takes 28 ms, and there may be hundreds.
    """
    until = time.monotonic() + seconds
    sought = set(inodes)
    found = find_namespaces()
    others = tuple(n for n in found.namespaces if not n.own and _has_sockets(n))
    near = _near(holders, found.own)

    def sockets_in(_: Namespace) -> frozenset[int]:
        return frozenset(read_states(sought))

    def from_outside(namespace: Namespace) -> frozenset[int]:
        return _from_outside(namespace) & sought

    inside, reasons = set[int](), set[str]()
    for namespaces in (near, others):
        left = until - time.monotonic()
        for one in visit(namespaces, sockets_in, left, from_outside=from_outside):
            inside |= one.result or frozenset()
            reasons.add(one.why_not)
            if inside == sought:
                return Elsewhere(frozenset(inside))
    unread = bool(reasons - {"", "gone", "time"})
    return Elsewhere(frozenset(inside), unread, "time" in reasons, bool(found.gaps))


def _has_sockets(namespace: Namespace) -> bool:
    """Return whether there may be more than TIME_WAITs, which no process holds."""
    return namespace.usage is None or namespace.usage.inuse > 0


def _near(holders: Iterable[int], own: Namespace) -> tuple[Namespace, ...]:
    """Return the namespaces that some processes have open, or have threads in, but this one."""
    near: dict[tuple[int | None, int | None], Namespace] = {}
    for pid in holders:
        for namespace in (*_held_open(pid), *_of_threads(pid)):
            if namespace.inode != own.inode and namespace.table != own.table:
                near.setdefault((namespace.inode, namespace.table), namespace)
    return tuple(near.values())


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
