"""Read what the descriptors of a process stand for, how many there are, and who shares them.

Linux facts: KERNEL P in the project's notes; proc_fd_link() in fs/proc/fd.c, sockfs_xattr_get() in
net/socket.c.  It takes the rights of the process's owner, or CAP_SYS_PTRACE and
CAP_DAC_READ_SEARCH.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.waits import Descriptor, FdKind
from twdiag.sources.live.proc import all_pids, read_bytes, read_stat
from twdiag.sources.live.processes.threads import parse_status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

TCP_PROTOCOLS: Final = frozenset({b"TCP", b"TCPv6"})
"""Names of struct proto: tcp_prot in net/ipv4/tcp_ipv4.c, tcpv6_prot in net/ipv6/tcp_ipv6.c."""

_LINK: Final = re.compile(r"(socket|pipe):\[(\d{1,20})\]", re.ASCII)
_ANONYMOUS: Final = {
    "anon_inode:[eventpoll]": FdKind.EPOLL,
    "anon_inode:[eventfd]": FdKind.EVENT,
    "anon_inode:[timerfd]": FdKind.TIMER,
    "anon_inode:[signalfd]": FdKind.SIGNAL,
    "anon_inode:[io_uring]": FdKind.RING,
}
_FLAGS: Final = re.compile(rb"^flags:\s+([0-7]{1,12})\s*$", re.MULTILINE)
# Where a process has more descriptors than this, only so many of them are looked at.
_SAMPLE: Final = 10_000


class Holding(NamedTuple):
    """One process that holds a descriptor of a socket.

    `started` is its start in clock ticks since boot; `cloexec` whether exec() would close the
    descriptor, None where that was not seen; `executable` the program it runs, "" where hidden.
    """

    pid: int
    parent: int
    started: int
    name: str
    executable: str
    fd: int
    cloexec: bool | None


def parse_link(number: int, link: str) -> Descriptor:
    """Return what a link of /proc/PID/fd stands for."""
    match = _LINK.fullmatch(link)
    if match:
        kind = FdKind.SOCKET if match[1] == "socket" else FdKind.PIPE
        return Descriptor(number, kind, int(match[2]), link)
    if link.startswith("/"):
        kind = FdKind.DEVICE if link.startswith("/dev/") else FdKind.FILE
        return Descriptor(number, kind, None, link)
    return Descriptor(number, _ANONYMOUS.get(link, FdKind.OTHER), None, link)


def read_descriptor(pid: int, number: int) -> Descriptor | None:
    """Return what one descriptor of a process stands for, None where it is closed by now.

    Raises PermissionError where it may not be seen.
    """
    try:
        return parse_link(number, os.readlink(f"/proc/{pid}/fd/{number}"))
    except PermissionError:
        raise
    except OSError:
        return None


def descriptors(pid: int, most: int = _SAMPLE) -> Iterator[Descriptor]:
    """Yield what the descriptors of a process stand for, at most so many, spread over all of them.

    Raises PermissionError where they may not be seen, ProcessLookupError or FileNotFoundError where
    the process is gone.
    """
    folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = os.listdir(folder)
        # Evenly spread rather than the first: what was opened at the start is unlike the rest.
        for name in spread(names, most):
            try:
                link = os.readlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue  # closed meanwhile
            yield parse_link(int(name), link)
    finally:
        os.close(folder)


def spread(names: list[str], most: int) -> list[str]:
    """Return at most so many of some names, evenly spread."""
    if len(names) <= most:
        return names
    return [names[place * len(names) // most] for place in range(most)]


def protocol(pid: int, number: int) -> bytes | None:
    """Return the name of a socket's protocol, such as b"TCP", None where it is gone or hidden."""
    try:
        return os.getxattr(f"/proc/{pid}/fd/{number}", "system.sockprotoname").rstrip(b"\0")
    except OSError:
        return None


def read_holders(
    inodes: Collection[int], pids: Iterable[int], seconds: float = 0.5
) -> tuple[dict[int, tuple[Holding, ...]], bool]:
    """Return every holder of these sockets among some processes, and whether all were searched.

    For a few sockets (a descriptor that a child inherited keeps a connection open after its
    parent's close()): let `pids` be all processes, or an owner's relatives (see relatives()).
    Processes that may not be read or are gone are passed over.
    """
    until = time.monotonic() + seconds
    found: dict[int, tuple[Holding, ...]] = {}
    for pid in pids:
        if time.monotonic() > until:
            return found, False
        try:
            held = [d for d in descriptors(pid) if d.inode in inodes and d.kind is FdKind.SOCKET]
            for descriptor in held:
                if descriptor.inode is not None and (holding := _holding(pid, descriptor.number)):
                    found[descriptor.inode] = (*found.get(descriptor.inode, ()), holding)
        except OSError:
            continue
    return found, True


def namesakes(name: str) -> list[int]:
    """Return the processes of a name; needs no right, reads one small file of each (10 us)."""
    return [pid for pid in all_pids() if name_of(pid) == name]


def relatives(pid: int) -> list[int]:
    """Return the processes that may share descriptors with one, see related()."""
    return related(pid, read_parents())


def read_parents() -> dict[int, int]:
    """Return the parent of each process; needs no right, reads one small file of each (10 us)."""
    found = ((pid, read_stat(pid)) for pid in all_pids())
    return {pid: stat.parent for pid, stat in found if stat is not None}


def related(pid: int, parents: Mapping[int, int]) -> list[int]:
    """Return a process, its ancestors but init, its descendants and those of its parent."""
    line = [pid]
    while (parent := parents.get(line[-1], 0)) > 1 and parent not in line:
        line.append(parent)
    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found = list(line)
    waiting = list(line[:2])
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.append(child)
                waiting.append(child)
    return found


def _holding(pid: int, number: int) -> Holding | None:
    status, stat = parse_status(read_bytes(f"/proc/{pid}/status")), read_stat(pid)
    if status is None or stat is None:
        return None
    flags = _FLAGS.search(read_bytes(f"/proc/{pid}/fdinfo/{number}"))
    cloexec = bool(int(flags[1], 8) & os.O_CLOEXEC) if flags else None
    program = executable_of(pid)
    return Holding(pid, stat.parent, stat.started, status.name, program, number, cloexec)


def executable_of(pid: int) -> str:
    """Return the path of the program that a process runs, "" where it is hidden or gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def name_of(pid: int) -> str:
    """Return the name of a process, "" where it is gone; text from outside."""
    try:
        return os.fsdecode(read_bytes(f"/proc/{pid}/comm")).removesuffix("\n")
    except OSError:
        return ""
