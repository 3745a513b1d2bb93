"""Find the child that a thread waits for in a loop of its own: execSync() of Node.js.

libuv gives a child Unix sockets as its standard streams.  While a program waits for one child
alone, the loop that serves its connections stands still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.model.waits import FdKind
from twdiag.sources.live.proc import read_bytes
from twdiag.sources.live.processes import threads as parse
from twdiag.sources.live.processes.descriptors import TCP_PROTOCOLS, protocol, read_descriptor
from twdiag.sources.live.processes.unix_peers import unix_peers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from twdiag.model.waits import Descriptor

_MOST: Final = 6
"""Three streams of the child, and what wakes the loop."""
_STREAMS: Final = 3
_WAKING: Final = frozenset({FdKind.EVENT, FdKind.TIMER, FdKind.SIGNAL, FdKind.PIPE})


def watched_by(pid: int, number: int) -> tuple[int, ...]:
    """Return the descriptors that an epoll set watches, none where it may not be read."""
    try:
        return parse.parse_watched(read_bytes(f"/proc/{pid}/fdinfo/{number}"))
    except OSError:
        return ()


def child_of_loop(
    pid: int,
    number: int,
    waited_in: Collection[int],
    all_of: Callable[[], Collection[Descriptor]],
    children: Callable[[], Iterable[int]],
) -> int | None:
    """Return the child whose streams are all that an epoll set watches, None for any other set.

    `waited_in` are the sets that threads of the process wait in; one that watches TCP sockets must
    not be among them, or the program goes on serving.  A message channel to a child is no stream.
    `all_of` its descriptors and its `children` are asked for where the set is small.
    """
    numbers = watched_by(pid, number)
    if not 0 < len(numbers) <= _MOST or any(protocol(pid, n) in TCP_PROTOCOLS for n in numbers):
        return None
    descriptors = all_of()
    watched = [read_descriptor(pid, fd) for fd in numbers]
    if not all(_may_be(d, descriptors) for d in watched):
        return None
    ends = {d.inode for d in watched if d and d.kind is FdKind.SOCKET and d.inode is not None}
    peers = unix_peers(ends) if ends and _serves_no_more(pid, waited_in, descriptors) else {}
    if not ends or peers.keys() != ends:
        return None
    return next((child for child in children() if set(peers.values()) <= _streams(child)), None)


def _may_be(descriptor: Descriptor | None, descriptors: Collection[Descriptor]) -> bool:
    """Return whether a descriptor may be in such a set: a socket, or what wakes a loop."""
    if descriptor is None or descriptor.kind is FdKind.SOCKET:
        return descriptor is not None
    if descriptor.kind is FdKind.PIPE:  # the process has both ends of one to be woken by
        return sum(d.inode == descriptor.inode for d in descriptors) > 1
    return descriptor.kind in _WAKING


def _serves_no_more(
    pid: int, waited_in: Collection[int], descriptors: Iterable[Descriptor]
) -> bool:
    """Return whether a set that watches TCP sockets is one that no thread waits in."""
    return any(
        protocol(pid, fd) in TCP_PROTOCOLS
        for d in descriptors
        if d.kind is FdKind.EPOLL and d.number not in waited_in
        for fd in watched_by(pid, d.number)
    )


def _streams(pid: int) -> set[int]:
    """Return the inodes of a process's standard streams, as far as they may be seen."""
    try:
        found = [read_descriptor(pid, fd) for fd in range(_STREAMS)]
    except PermissionError:
        return set()
    return {d.inode for d in found if d is not None and d.inode is not None}
