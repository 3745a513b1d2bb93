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
from twdiag.sources.live.endpoints import read_endpoints
from twdiag.sources.live.headroom import read_bytes
from twdiag.sources.live.threads import parse_status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

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
_SHOWN: Final = 20


class Nameless(NamedTuple):
    """The TCP sockets of a process that no table shows.

    `descriptors` are the first few of them; `sockets` counts them among the `looked` of `open`
    descriptors, `estimate` is that carried over to all, equal to `sockets` where all were seen.
    """

    sockets: int
    descriptors: tuple[int, ...]
    looked: int
    open: int

    @property
    def estimate(self) -> int:
        """How many there are, about, where not all descriptors were looked at."""
        return self.sockets if self.looked >= self.open else self.sockets * self.open // self.looked


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


def count_kinds(pid: int, most: int = _SAMPLE) -> dict[FdKind, int]:
    """Return how many descriptors of each kind a process has, of at most so many looked at."""
    counts: dict[FdKind, int] = {}
    for descriptor in descriptors(pid, most):
        counts[descriptor.kind] = counts.get(descriptor.kind, 0) + 1
    return counts


def nameless_sockets(
    pid: int,
    known_inodes: Collection[int],
    most: int = _SAMPLE,
    seconds: float = 0.5,
    in_tables: Callable[[Collection[int]], Collection[int]] = read_endpoints,
) -> Nameless:
    """Return the TCP sockets of a process that are in no table: reset, or ended by keepalive.

    `known_inodes` are those of every socket the tables have shown, bound ones included.  A socket
    opened since then is in none of them, and one closed meanwhile no more: `in_tables` asks again
    for the suspects (in the process's network namespace), and their descriptors are read again.
    16 us for each suspect; 100,000 descriptors are sampled (`most`, `seconds`).  A socket that was
    never bound or connected is in no table either, and cannot be told apart.  Raises as
    descriptors().
    """
    until = time.monotonic() + seconds
    number = os.stat(f"/proc/{pid}/fd").st_size
    suspects: dict[int, Descriptor] = {}
    looked = 0
    late = False
    for descriptor in descriptors(pid, most):
        looked += 1
        late = looked % 64 == 0 and time.monotonic() > until
        if late:
            break
        inode = descriptor.inode
        if descriptor.kind is not FdKind.SOCKET or inode is None or inode in known_inodes:
            continue
        if inode not in suspects and protocol(pid, descriptor.number) in TCP_PROTOCOLS:
            suspects[inode] = descriptor
    known = in_tables(suspects.keys()) if suspects else ()
    lost = [d for i, d in suspects.items() if i not in known and _is_open(pid, d)]
    complete = looked < most and not late
    shown = tuple(descriptor.number for descriptor in lost[:_SHOWN])
    return Nameless(len(lost), shown, looked, looked if complete else max(number, looked))


def _is_open(pid: int, descriptor: Descriptor) -> bool:
    return read_descriptor(pid, descriptor.number) == descriptor


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
    found = []
    for word in os.listdir("/proc"):
        if word.isdecimal():
            try:
                if os.fsdecode(read_bytes(f"/proc/{word}/comm")).rstrip("\n") == name:
                    found.append(int(word))
            except OSError:
                continue
    return found


def relatives(pid: int) -> list[int]:
    """Return the processes that may share descriptors with one: its ancestors and descendants.

    Needs no right; reads one small file of every process (10 us each).
    """
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                parents[int(name)] = parse_stat(read_bytes(f"/proc/{name}/stat"))[0]
            except (OSError, ValueError):
                continue
    return related(pid, parents)


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
    status = parse_status(read_bytes(f"/proc/{pid}/status"))
    if status is None:
        return None
    parent, started = parse_stat(read_bytes(f"/proc/{pid}/stat"))
    flags = _FLAGS.search(read_bytes(f"/proc/{pid}/fdinfo/{number}"))
    cloexec = bool(int(flags[1], 8) & os.O_CLOEXEC) if flags else None
    try:
        executable = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        executable = ""
    return Holding(pid, parent, started, status.name, executable, number, cloexec)


def parse_stat(data: bytes) -> tuple[int, int]:
    """Return (parent's pid, start in clock ticks since boot) of /proc/PID/stat.

    Raises ValueError where it is malformed; a process's name can hold blanks and parentheses.
    """
    fields = data.rpartition(b")")[2].split()
    if len(fields) < 20:
        raise ValueError(f"not a stat line: {data[:80]!r}")
    return int(fields[1]), int(fields[19])
