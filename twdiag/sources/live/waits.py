"""Read what the threads of a few processes wait for, within a time budget.

Only /proc is read, and nothing is stopped or changed.  A system call needs the right to trace
(PTRACE_MODE_ATTACH: root, CAP_SYS_PTRACE, or the same user where Yama allows it); where it is
missing, the kernel function a thread sleeps in says a part of it, and a gap says the rest.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.snapshot import Gap
from twdiag.model.waits import (
    Act,
    Descriptor,
    EpollSet,
    FdKind,
    ProcessWaits,
    ThreadWait,
)
from twdiag.sources.live import threads as parse
from twdiag.sources.live.child_loops import child_of_loop, watched_by
from twdiag.sources.live.descriptors import read_descriptor
from twdiag.sources.live.headroom import read_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

PAUSE: Final = 0.1
"""Seconds between the two looks: what has not moved meanwhile is "still" there."""

_MOST_THREADS: Final = 512  # of one process; a JVM with more has the rest in the same few places
_MOST_TARGETS: Final = 64
# How many descriptors of a process are searched for epoll sets that nobody waits for: they are
# made at the start, and low numbers therefore.
_EPOLL_SEARCH: Final = 256
_MOST_CHILDREN: Final = 64
_FEW: Final = 4  # standard output and error of a child, and one or two to be woken by
_NO_SOCKETS: Final = frozenset({FdKind.PIPE, FdKind.EVENT, FdKind.TIMER, FdKind.SIGNAL})
_STREAMS: Final = 8


class _Glance(NamedTuple):
    """One look at a thread: its status, its system call (None: it runs or may not be seen).

    `ran` are the nanoseconds that a thread which runs, or wants to, has had of a CPU.
    """

    status: parse.Status
    call: parse.SystemCall | None
    denied: bool
    ran: int | None = None


def read_waits(
    pids: Iterable[int],
    inodes_of_interest: Collection[int],
    seconds: float = 0.5,
    twice: bool = True,
) -> tuple[dict[int, ProcessWaits], list[Gap]]:
    """Return what these processes wait for, and what could not be seen.

    `inodes_of_interest` are the sockets a finding is about, listeners included: of epoll sets with
    thousands of watches only theirs are kept.  Two looks 0.1 s apart tell which threads have not
    moved; where `seconds` do not suffice for the second (or `twice` is false) `still` is None.
    Processes that are gone are left out.  Costs about 50 us a thread and 30 us a process besides
    the pause: 500 processes of 4 threads take 0.3 s.
    """
    begun = time.monotonic()
    until = begun + seconds
    wanted = tuple(dict.fromkeys(pids))
    first, late = _look_at_all(wanted, until)
    looked = time.monotonic()
    found = {pid: _told(pid, glances, inodes_of_interest, until) for pid, glances in first.items()}
    hurried = False
    if twice and found:
        # The second look takes as long as the first one.
        hurried = time.monotonic() + (looked - begun) > until or looked + PAUSE > until
        if not hurried:
            time.sleep(max(0.0, looked + PAUSE - time.monotonic()))
            found = {pid: _compared(waits, first[pid]) for pid, waits in found.items()}
    return found, _gaps(wanted, found, late, hurried)


def wanted_inodes(found: Mapping[int, ProcessWaits]) -> set[int]:
    """Return the inodes of the sockets that threads wait for: whose rows the analysis wants."""
    return {
        target.inode
        for waits in found.values()
        for thread in waits.threads
        for target in thread.targets
        if target.kind is FdKind.SOCKET and target.inode is not None
    }


def _look_at_all(
    pids: Iterable[int], until: float
) -> tuple[dict[int, dict[int, _Glance]], list[int]]:
    """Return a glance at each thread of each process, and the processes there was no time for."""
    glances: dict[int, dict[int, _Glance]] = {}
    late = []
    for pid in pids:
        if time.monotonic() > until:
            late.append(pid)
            continue
        try:
            tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
        except OSError:
            continue  # gone, or hidden
        seen = {tid: g for tid in tids[:_MOST_THREADS] if (g := _glance(pid, tid)) is not None}
        if seen:
            glances[pid] = seen
    return glances, late


def _glance(pid: int, tid: int) -> _Glance | None:
    """Return what one thread does at this instant, None where it is gone."""
    folder = f"/proc/{pid}/task/{tid}"
    try:
        status = parse.parse_status(read_bytes(f"{folder}/status"))
    except OSError:
        return None
    if status is None:
        return None
    ran = _cpu_time(folder) if status.state == "R" else None
    try:
        return _Glance(status, parse.parse_syscall(read_bytes(f"{folder}/syscall")), False, ran)
    except PermissionError:
        return _Glance(status, None, True, ran)
    except (OSError, ValueError):
        # Gone meanwhile, a kernel without CONFIG_HAVE_ARCH_TRACEHOOK, or a format of the future.
        return _Glance(status, None, False, ran)


def _cpu_time(folder: str) -> int | None:
    """Return how long a thread was on a CPU, None where the kernel does not count it."""
    try:
        return parse.parse_cpu_time(read_bytes(f"{folder}/schedstat"))
    except OSError:
        return None


def _told(
    pid: int, glances: Mapping[int, _Glance], inodes: Collection[int], until: float
) -> ProcessWaits:
    """Return one process's threads with what they wait for, and its epoll sets."""
    leader = glances.get(pid) or next(iter(glances.values()))
    reader = _Reader(pid, [glance.call for glance in glances.values() if glance.call])
    told = tuple(reader.thread(tid, glance) for tid, glance in glances.items())
    sets = reader.epoll_sets(inodes, {t.number for w in told for t in w.targets}, until)
    tracers = [glance.status.tracer for glance in glances.values() if glance.status.tracer]
    return ProcessWaits(
        pid,
        leader.status.name,
        leader.status.uid,
        told,
        max(len(told), _thread_count(pid)),
        denied=reader.denied or all(glance.denied for glance in glances.values()),
        epolls=sets,
        tracer=tracers[0] if tracers else None,
        frozen=_frozen(pid),
        ring=reader.ring,
    )


class _Reader:
    """Reads what the threads of one process wait for; remembers what its descriptors are."""

    def __init__(self, pid: int, calls: Iterable[parse.SystemCall]) -> None:
        self._pid = pid
        self._machine = os.uname().machine
        self._calls = tuple(calls)
        self._known: dict[int, Descriptor | None] = {}
        self._own_pipes: list[int] | None = None
        self.denied = False
        self.ring = False

    def thread(self, tid: int, glance: _Glance) -> ThreadWait:
        """Return what one thread waits for."""
        status, call = glance.status, glance.call
        act = parse.act_of_state(status.state)
        if act is not None or call is None:
            return self._without_call(tid, glance, act)
        known = parse.known_call(call, self._machine)
        numbers = self._numbers(call, known)
        if known.act is Act.POLL and known.has_fd:
            numbers = self._polled(numbers)
        targets = tuple(d for n in numbers[:_MOST_TARGETS] if (d := self._descriptor(n)))
        futex = call.arguments[0] if known.act in (Act.FUTEX, Act.MUTEX) and not targets else None
        child = parse.child_of(call, known) or self._writer(known.act, targets)
        if known.act is Act.POLL and any(d.kind is FdKind.EPOLL for d in targets):
            child = child or self._child_of_loop(numbers[0])
        if child and known.act is not Act.CHILD:
            known, targets = known._replace(act=Act.CHILD), ()
        return ThreadWait(
            tid, status.name, status.state, known.act, known.name, targets, futex, child
        )

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
            parse.descriptor_of(call, parse.known_call(call, self._machine)) or 0
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

    def _without_call(self, tid: int, glance: _Glance, act: Act | None) -> ThreadWait:
        """Return what a thread's state and the function it sleeps in tell."""
        status = glance.status
        channel = "" if status.state == "R" else _channel(self._pid, tid)
        if act is None:
            act = parse.act_of_channel(channel) if channel else Act.UNSEEN
        return ThreadWait(tid, status.name, status.state, act, channel=channel)

    def _numbers(self, call: parse.SystemCall, known: parse.Known) -> tuple[int, ...]:
        """Return the descriptors that a system call waits for."""
        number = parse.descriptor_of(call, known)
        if number is not None:
            return (number,)
        read = parse.parse_pollfds if "poll" in known.name else parse.parse_fd_set
        found: list[int] = []
        for address, size in parse.memory_of(call, known):
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
        return tuple(s for number in sorted(sets) if (s := _epoll_set(self._pid, number, inodes)))


def _children(pid: int) -> list[int]:
    """Return the children of a process, none where the kernel does not list them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task")[:_MOST_THREADS]:
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


def _epoll_set(pid: int, number: int, inodes: Collection[int]) -> EpollSet | None:
    """Return one epoll set; before Linux 4.11 the inodes of its watches are looked up."""
    try:
        size, watches = parse.parse_epoll(read_bytes(f"/proc/{pid}/fdinfo/{number}"), inodes)
    except OSError:
        return None
    if any(watch.inode is None for watch in watches):
        named = []
        for watch in watches[:_EPOLL_SEARCH]:
            descriptor = read_descriptor(pid, watch.fd)
            if descriptor is not None and descriptor.inode in inodes:
                named.append(watch._replace(inode=descriptor.inode))
        watches = tuple(named)
    return EpollSet(number, size, watches)


def _compared(waits: ProcessWaits, before: Mapping[int, _Glance]) -> ProcessWaits:
    """Return a process's threads with `still`, from a second look."""
    told = []
    for thread in waits.threads:
        after = _glance(waits.pid, thread.tid)
        told.append(thread._replace(still=_is_still(before[thread.tid], after)))
    return replace(waits, threads=tuple(told))


def _is_still(before: _Glance, after: _Glance | None) -> bool | None:
    """Say whether a thread has not moved between two looks, None where that cannot be told.

    A thread that waits must not have been on a CPU meanwhile: a worker that has served a request
    and waits for the same upstream again looks the same but for its number of switches.
    """
    if after is None or before.status.state != after.status.state:
        return False
    if before.status.sleeps != after.status.sleeps:
        return False
    if before.status.state == "R":
        return _still_runs(before.ran, after.ran)
    return before.call == after.call and before.status.evictions == after.status.evictions


def _still_runs(before: int | None, after: int | None) -> bool | None:
    """Say whether a thread that never slept ran: one that got no core may be about to wait."""
    if before is None or after is None:
        return None
    return True if after > before else None


def _channel(pid: int, tid: int) -> str:
    """Return the kernel function a thread sleeps in, "" where hidden ("0") or gone."""
    try:
        name = read_bytes(f"/proc/{pid}/task/{tid}/wchan").decode("ascii", "replace")
    except OSError:
        return ""
    return "" if name == "0" else name


def read_stack(pid: int, tid: int) -> tuple[str, ...]:
    """Return the kernel functions that a thread is in, innermost first; only root may see them.

    Raises PermissionError where it may not be seen; () where the thread is gone.
    """
    try:
        return parse.parse_stack(read_bytes(f"/proc/{pid}/task/{tid}/stack"))
    except PermissionError:
        raise
    except OSError:
        return ()


def _thread_count(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def _frozen(pid: int) -> bool | None:
    """Say whether the process's cgroup (version 2) is frozen; no right is needed."""
    try:
        for line in read_bytes(f"/proc/{pid}/cgroup").splitlines():
            if line.startswith(b"0::"):
                folder = os.fsdecode(line[3:])
                return b"frozen 1" in read_bytes(f"/sys/fs/cgroup{folder}/cgroup.events")
    except OSError:
        pass
    return None


def _gaps(
    wanted: tuple[int, ...], found: Mapping[int, ProcessWaits], late: list[int], hurried: bool
) -> list[Gap]:
    gaps = []
    denied = [waits for waits in found.values() if waits.denied]
    if denied:
        gaps.append(_rights_gap(denied))
    gone = len(wanted) - len(found) - len(late)
    if gone:
        what = "1 process is" if gone == 1 else f"{gone} processes are"
        why = f"{what} gone or not visible from here (hidepid, another PID namespace)"
        gaps.append(Gap("waits", why, "run on the host rather than in a container", partial=True))
    if late:
        what = "1 process was" if len(late) == 1 else f"{len(late)} processes were"
        gaps.append(Gap("waits", f"{what} not looked at for want of time", _SLOWER, partial=True))
    if hurried:
        why = "there was no time to see whether the threads still wait 0.1 s later"
        gaps.append(Gap("waits", why, _SLOWER, partial=True))
    return gaps


_SLOWER: Final = "give it more time (--timeout)"


def _rights_gap(denied: list[ProcessWaits]) -> Gap:
    """Return the gap for processes that may not be read, with the right that is missing."""
    names = ", ".join(f"pid {waits.pid}" for waits in denied[:3])
    names += f" and {len(denied) - 3} more" if len(denied) > 3 else ""
    why = f"no permission to read the system calls of {names}"
    scope = _ptrace_scope()
    if scope == 3:
        how = "kernel.yama.ptrace_scope is 3: nobody may, until the host starts with a lower value"
    elif scope in (1, 2) and any(waits.uid == os.geteuid() for waits in denied):
        why += f" (kernel.yama.ptrace_scope is {scope})"
        how = "run as root, or with the capability CAP_SYS_PTRACE"
    else:
        how = "run as root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    return Gap("waits", why, how, partial=True)


def _ptrace_scope() -> int | None:
    """Return kernel.yama.ptrace_scope, None where the kernel has no Yama."""
    try:
        return int(read_bytes("/proc/sys/kernel/yama/ptrace_scope"))
    except (OSError, ValueError):
        return None
