"""Tell what the threads of one process wait for: descriptors, a child, epoll sets."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.model.waits import Act, Descriptor, EpollSet, FdKind, ThreadWait
from twdiag.sources.live.proc import read_bytes
from twdiag.sources.live.processes import system_calls
from twdiag.sources.live.processes import threads as parse
from twdiag.sources.live.processes.child_loops import child_of_loop, watched_by
from twdiag.sources.live.processes.descriptors import executable_of, read_descriptor
from twdiag.sources.live.processes.glances import MOST_THREADS, Glance

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_MOST_TARGETS: Final = 64
# How many descriptors of a process are searched for epoll sets that nobody waits for: they are
# made at the start, and low numbers therefore.
_EPOLL_SEARCH: Final = 256
_MOST_CHILDREN: Final = 64
_FEW: Final = 4  # standard output and error of a child, and one or two to be woken by
_NO_SOCKETS: Final = frozenset({FdKind.PIPE, FdKind.EVENT, FdKind.TIMER, FdKind.SIGNAL})
_STREAMS: Final = 8


class Targets:
    """Reads what the threads of one process wait for; remembers what its descriptors are."""

    def __init__(self, pid: int, calls: Iterable[system_calls.SystemCall]) -> None:
        self._pid = pid
        self._machine = os.uname().machine
        self._calls = tuple(calls)
        self._known: dict[int, Descriptor | None] = {}
        self._own_pipes: list[int] | None = None
        self.denied = False
        self.ring = False

    def thread(self, tid: int, glance: Glance) -> ThreadWait:
        """Return what one thread waits for."""
        status, call = glance.status, glance.call
        act = parse.act_of_state(status.state)
        if act is not None or call is None:
            return self._without_call(tid, glance, act)
        known = system_calls.known_call(call, self._machine)
        numbers = self._numbers(call, known)
        if known.act is Act.POLL and known.has_fd:
            numbers = self._polled(numbers)
        targets = tuple(d for n in numbers[:_MOST_TARGETS] if (d := self._descriptor(n)))
        futex = call.arguments[0] if known.act in (Act.FUTEX, Act.MUTEX) and not targets else None
        child = self._here(system_calls.child_of(call, known))
        child = child or self._writer(known.act, targets)
        if known.act is Act.POLL and any(d.kind is FdKind.EPOLL for d in targets):
            child = child or self._child_of_loop(numbers[0])
        if child and known.act is not Act.CHILD:
            known, targets = known._replace(act=Act.CHILD), ()
        return ThreadWait(
            tid, status.name, status.state, known.act, known.name, targets, futex, child
        )

    def _here(self, child: int | None) -> int | None:
        """Return the number that a child has here: in a container, the process knows another one.

        None where that cannot be told.
        """
        depth = len(_numbers_of(self._pid)) - 1
        if child is None or child <= 0 or depth <= 0:
            return child
        inside = ((one, _numbers_of(one)[depth : depth + 1]) for one in _children(self._pid))
        return next((one for one, numbers in inside if numbers == (child,)), None)

    def _vforked(self) -> int | None:
        """Return the only child with the very same memory, None where there is none or more."""
        own = _memory_of(self._pid)
        found = [child for child in _children(self._pid) if own and _memory_of(child) == own]
        return found[0] if len(found) == 1 else None

    def _writer(self, act: Act, targets: tuple[Descriptor, ...]) -> int | None:
        """Return the child whose output a thread waits for, None where it waits for anything else.

        A pipe whose other end the process has too is one between its threads, or to be woken by.
        """
        if act not in (Act.READ, Act.POLL):
            return None
        if any(target.kind is not FdKind.PIPE for target in targets):
            return None
        pipes = {target.inode for target in targets if target.inode is not None}
        if not pipes or any(self._own().count(inode) > 1 for inode in pipes):
            return None
        children = _children(self._pid)[:_MOST_CHILDREN]
        return next((child for child in children if _writes_into(child, pipes)), None)

    def _child_of_loop(self, number: int) -> int | None:
        """Return the child that a loop in this epoll set is run for, None for any other loop."""
        waited_in = {
            system_calls.descriptor_of(call, system_calls.known_call(call, self._machine)) or 0
            for call in self._calls
        }
        try:
            return child_of_loop(
                self._pid,
                number,
                waited_in,
                lambda: _low_descriptors(self._pid),
                lambda: _children(self._pid)[:_MOST_CHILDREN],
            )
        except OSError:
            return None

    def _polled(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Return the descriptors of a small epoll set without sockets instead of the set's own.

        Such a set is no server's loop: it waits for a child's output, or for its own threads.
        """
        watched = watched_by(self._pid, numbers[0])
        if not 0 < len(watched) <= _FEW:
            return numbers
        kinds = {d.kind for number in watched if (d := self._descriptor(number))}
        return watched if kinds and kinds <= _NO_SOCKETS else numbers

    def _own(self) -> list[int]:
        """Return the pipes of the process's descriptors, one that it has both ends of twice."""
        if self._own_pipes is None:
            found: list[int | None] = []
            with contextlib.suppress(OSError):
                found = [d.inode for d in _low_descriptors(self._pid) if d.kind is FdKind.PIPE]
            self._own_pipes = [inode for inode in found if inode is not None]
        return self._own_pipes

    def _without_call(self, tid: int, glance: Glance, act: Act | None) -> ThreadWait:
        """Return what a thread's state and the function it sleeps in tell."""
        status = glance.status
        channel = "" if status.state == "R" else _channel(self._pid, tid)
        if act is None:
            act = parse.act_of_channel(channel) if channel else Act.UNSEEN
        if act is Act.DISK and parse.is_vfork(channel):
            child = self._vforked()
            return ThreadWait(
                tid, status.name, status.state, Act.CHILD, child=child, channel=channel
            )
        return ThreadWait(tid, status.name, status.state, act, channel=channel)

    def _numbers(self, call: system_calls.SystemCall, known: system_calls.Known) -> tuple[int, ...]:
        """Return the descriptors that a system call waits for."""
        number = system_calls.descriptor_of(call, known)
        if number is not None:
            return (number,)
        read = system_calls.parse_pollfds if "poll" in known.name else system_calls.parse_fd_set
        found: list[int] = []
        for address, size in system_calls.memory_of(call, known):
            found += read(self._memory(address, size))
        return tuple(dict.fromkeys(found))

    def _memory(self, address: int, size: int) -> bytes:
        """Return some bytes of the process's memory: the array that its poll() was given."""
        try:
            file = os.open(f"/proc/{self._pid}/mem", os.O_RDONLY)
            try:
                return os.pread(file, size, address)
            finally:
                os.close(file)
        except (OSError, OverflowError):
            return b""

    def _descriptor(self, number: int) -> Descriptor | None:
        if number not in self._known:
            try:
                self._known[number] = read_descriptor(self._pid, number)
            except PermissionError:
                self.denied = True
                self._known[number] = None
        return self._known[number]

    def epoll_sets(
        self, inodes: Collection[int], waited: Collection[int], until: float
    ) -> tuple[EpollSet, ...] | None:
        """Return the epoll sets of the process, None where they may not be read."""
        sets = [n for n in waited if (d := self._known.get(n)) and d.kind is FdKind.EPOLL]
        if time.monotonic() < until:
            try:
                for descriptor in _low_descriptors(self._pid):
                    self.ring |= descriptor.kind is FdKind.RING
                    if descriptor.kind is FdKind.EPOLL and descriptor.number not in sets:
                        sets.append(descriptor.number)
            except PermissionError:
                self.denied = True
                return None
            except OSError:
                return None
        found = (_epoll_set(self._pid, number, inodes, sets) for number in sorted(sets))
        return tuple(one for one in found if one)


def _numbers_of(pid: int) -> tuple[int, ...]:
    """Return a process's number in each PID namespace from this one on, () where it is gone."""
    try:
        return parse.parse_numbers(read_bytes(f"/proc/{pid}/status"))
    except OSError:
        return ()


def _memory_of(pid: int) -> tuple[str | bytes, ...]:
    """Return the program of a process and how much memory of which kind it has; () unseen."""
    try:
        return executable_of(pid), read_bytes(f"/proc/{pid}/statm")
    except OSError:
        return ()


def _children(pid: int) -> list[int]:
    """Return the children of a process, none where the kernel does not list them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task")[:MOST_THREADS]:
            found += map(int, read_bytes(f"/proc/{pid}/task/{tid}/children").split())
    return found


def _writes_into(pid: int, pipes: Collection[int]) -> bool:
    """Say whether one of a process's standard streams, or the next few, is one of these pipes."""
    try:
        return any((d := read_descriptor(pid, n)) and d.inode in pipes for n in range(_STREAMS))
    except PermissionError:
        return False


def _low_descriptors(pid: int) -> list[Descriptor]:
    folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    os.close(folder)  # raises where it may not be read; a single link would only seem closed
    found = []
    absent = 0
    for number in range(_EPOLL_SEARCH):
        descriptor = read_descriptor(pid, number)
        if descriptor is not None:
            found.append(descriptor)
            absent = 0
        elif (absent := absent + 1) > 8:
            break  # numbers are given out from the lowest one: this is the end of the table
    return found


def _epoll_set(
    pid: int, number: int, inodes: Collection[int], sets: Collection[int]
) -> EpollSet | None:
    """Return one of some epoll sets; before Linux 4.11 the inodes of its watches are looked up."""
    try:
        data = read_bytes(f"/proc/{pid}/fdinfo/{number}")
    except OSError:
        return None
    size, watches = parse.parse_epoll(data, inodes)
    inner = tuple(n for n in parse.parse_watched(data) if n in sets) if len(sets) > 1 else ()
    if any(watch.inode is None for watch in watches):
        named = []
        for watch in watches[:_EPOLL_SEARCH]:
            descriptor = read_descriptor(pid, watch.fd)
            if descriptor is not None and descriptor.inode in inodes:
                named.append(watch._replace(inode=descriptor.inode))
        watches = tuple(named)
    return EpollSet(number, size, watches, inner)


def _channel(pid: int, tid: int) -> str:
    """Return the kernel function a thread sleeps in, "" where hidden ("0") or gone."""
    try:
        name = read_bytes(f"/proc/{pid}/task/{tid}/wchan").decode("ascii", "replace")
    except OSError:
        return ""
    return "" if name == "0" else name
