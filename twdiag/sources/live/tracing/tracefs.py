"""Read TCP's trace events through a private tracing instance, the one thing that trace makes.

The instance is a folder in tracefs of its own buffers and switches; no other user's tracing is
touched.  It is removed at the end.  Should this process be killed, the kernel stops it by itself
(free_buffer with the option disable_on_free), and the next start removes what is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.closes import (
    IN_INTERRUPT,
    Closer,
    Killed,
    ResetReceived,
    ResetSent,
    SocketGone,
    StateChange,
    ThreadBegins,
    ThreadEnds,
)
from twdiag.sources.live.tracing.trace_buffer import (
    parse_format,
    parse_header_page,
    read_page,
    text_of,
    total_lost,
)
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import TracebackType

    from twdiag.model.closes import TraceEvent
    from twdiag.sources.live.tracing import trace_buffer
    from twdiag.sources.live.tracing.trace_buffer import EventFormat

    Maker = trace_buffer.Maker[TraceEvent]

ROOTS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
"""Where tracefs is mounted; it is looked for nowhere else and never mounted."""

_INSTANCE: Final = re.compile(r"twdiag-(\d+)-(\d+)")
_LARGEST_PAGE: Final = 1 << 17
BUFFER_KIB: Final = 65_536
"""The buffers of all CPUs together: 2 s of 10,000 connections a second, both ends here."""
_MOST_PAGES: Final = 1024
"""The pages of one CPU that are read at a time: some 40,000 events."""
_LEAST_KIB, _MOST_KIB = 256, 16_384
_MOST_PORTS: Final = 16
# CPUs are read one after the other: an event older than one already read can still turn up.
_SETTLED_NS: Final = 2_000_000
_INIT_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_MOMENT: Final = itemgetter(0)
_NAME_SECONDS: Final = 1.0
_CLONE_THREAD: Final = 0x10000  # include/uapi/linux/sched.h
_MOST_NAMES: Final = 4096

_STATES: Final = (
    "protocol == 6 && ("
    f"(newstate == {State.ESTABLISHED:d} && oldstate != {State.ESTABLISHED:d})"
    f" || oldstate == {State.ESTABLISHED:d} || oldstate == {State.CLOSE_WAIT:d}"
    f" || newstate == {State.CLOSING:d} || newstate == {State.CLOSE:d}"
    # A close() after a shutdown() changes nothing and is announced all the same.
    f" || (oldstate == {State.FIN_WAIT1:d} && newstate == {State.FIN_WAIT1:d})"
    f" || (oldstate == {State.FIN_WAIT2:d} && newstate == {State.FIN_WAIT2:d}))"
)


class _Wanted(NamedTuple):
    """A trace event that is asked for; without a needed one nothing can be told."""

    name: str
    filter: str
    maker: Callable[[EventFormat], Maker]
    needed: bool = True


def _as(kind: type[TraceEvent], *fields: str) -> Callable[[EventFormat], Maker]:
    """Return what makes events of a kind whose values are the moment and these fields."""
    # As _make() does, without its check: some events come 50,000 a second.
    build = cast("Callable[[tuple[Any, ...]], TraceEvent]", partial(tuple.__new__, kind))
    return lambda found: (build, found.decoder(*fields))


def _reset_sent(found: EventFormat) -> Maker:
    words = found.symbols.get("reason", {})
    if "reason" not in found.fields:
        return lambda values: ResetSent(values[0], values[1], ""), found.decoder("skaddr")

    def build(values: tuple[Any, ...]) -> TraceEvent:
        at, sk, reason, *ends = values
        return ResetSent(at, sk, words.get(reason, str(reason)), *ends)

    return build, found.decoder("skaddr", "reason", *_ends_of_reset(found))


def _ends_of_reset(found: EventFormat) -> tuple[str, ...]:
    """Return the fields with both ends as struct sockaddr, which came with the reason (6.10)."""
    fields = found.fields
    told = "reason" in fields and "saddr" in fields and "sport" not in fields
    return ("saddr", "daddr") if told else ()


def _thread_ends(found: EventFormat) -> Maker:
    def build(values: tuple[Any, ...]) -> TraceEvent:
        at, name, tid = values
        return ThreadEnds(at, text_of(name), tid)

    return build, found.decoder("comm", "common_pid")


_state_change: Final = _as(
    StateChange, "common_flags", "common_pid", "skaddr", "oldstate", "newstate", "sport", "dport",
    "family", "saddr+daddr+saddr_v6+daddr_v6",
)  # fmt: skip
_socket_gone: Final = _as(SocketGone, "common_flags", "common_pid", "skaddr", "sock_cookie")
_thread_begins: Final = _as(ThreadBegins, "common_pid", "pid", "clone_flags")

_WANTED: Final = (
    _Wanted("sock/inet_sock_set_state", _STATES, _state_change),
    _Wanted("tcp/tcp_destroy_sock", "", _socket_gone),
    _Wanted("tcp/tcp_receive_reset", "", _as(ResetReceived, "skaddr")),
    _Wanted("tcp/tcp_send_reset", "skaddr != 0", _reset_sent),
    _Wanted("sched/sched_process_exit", "", _thread_ends),
    _Wanted("task/task_newtask", "", _thread_begins, needed=False),
    _Wanted("signal/signal_generate", "sig == 9", _as(Killed, "pid"), needed=False),
)


class Tracer:
    """The private tracing instance while it runs: a context manager that yields events in order.

    With `ports`, the kernel leaves out the changes of state of connections without any of them;
    `kib` is what the buffers of all CPUs take together.
    Raises SourceRefused where there is no tracefs, no right to it or no such event.
    """

    def __init__(self, ports: Collection[int] = (), kib: int = BUFFER_KIB) -> None:
        self._root = find()
        self._kib = kib
        self._ports = sorted(ports)
        self._folder = ""
        self._keeper = -1
        self._rings: list[int] = []
        self._makers: dict[int, Maker] = {}
        self._held: list[TraceEvent] = []
        self.behind = False
        """Whether the last read() left more to be read at once."""
        self.settled = 0
        """The moment up to which it has returned all, ns."""
        self._lost_in_pages: list[int] = []
        self._lost_at_end: int | None = None
        self._names = Names()
        self.tells_refused = False
        """Whether it tells of a RST to data for a closed connection, and for which one."""

    def __enter__(self) -> Tracer:
        sweep(self._root)
        try:
            self._start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    @property
    def names(self) -> Names:
        """The names of the threads that events speak of."""
        return self._names

    def _start(self) -> None:
        folder = f"{self._root}/instances/twdiag-{os.getpid()}-{start_time(os.getpid())}"
        with _refusals():
            os.mkdir(folder, 0o700)
        self._folder = folder
        with _refusals():
            _write(f"{folder}/options/disable_on_free", "1")
            self._keeper = os.open(f"{folder}/free_buffer", os.O_WRONLY | os.O_CLOEXEC)
            _write(f"{folder}/trace_clock", "mono")
            cpus = sorted(os.listdir(f"{folder}/per_cpu"))
            share = min(max(self._kib // len(cpus), _LEAST_KIB), _MOST_KIB)
            _write(f"{folder}/buffer_size_kb", str(share))
            self._layout = parse_header_page(_read(f"{self._root}/events/header_page"))
            self._page_size = _page_size(folder)
            for cpu in cpus:
                path = f"{folder}/per_cpu/{cpu}/trace_pipe_raw"
                self._rings.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            self._enable()

    def _enable(self) -> None:
        """Switch the events on, the ends of sockets last: none is told without its beginning."""
        present = []
        for wanted in _WANTED:
            path = f"{self._folder}/events/{wanted.name}"
            if not os.path.isdir(path):
                if wanted.needed:
                    raise SourceRefused(
                        f"this kernel has no trace event {wanted.name}", "it needs Linux 4.18"
                    )
                continue
            try:
                found = parse_format(_read(f"{path}/format"))
                self._makers[found.number] = wanted.maker(found)
                if wanted.maker is _reset_sent:
                    self.tells_refused = bool(_ends_of_reset(found))
            except SourceError as error:
                raise SourceRefused(
                    f"the trace event {wanted.name} is another one on this kernel: {error.what}",
                    "it needs Linux 4.18",
                ) from error
            if wanted.filter:
                _write(f"{path}/filter", wanted.filter + self._only_ports(wanted))
            present.append(path)
        for path in reversed(present):
            _write(f"{path}/enable", "1")

    def _only_ports(self, wanted: _Wanted) -> str:
        if wanted.filter != _STATES or not 0 < len(self._ports) <= _MOST_PORTS:
            return ""
        return f" && ({' || '.join(f'sport == {n} || dport == {n}' for n in self._ports)})"

    def read(self, *, all_of_it: bool = False) -> list[TraceEvent]:
        """Return what has happened since the last call, oldest first, the newest 2 ms left out.

        With `all_of_it` those too.  A part of it is returned where there is much, so that memory
        stays small and a host that is faster than this process does not hold it for ever: then
        `behind` is True.  Threads are named as they are met, while they exist.
        """
        self.settled = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - _SETTLED_NS
        events, self._held = self._held, []
        self.behind = False
        for ring in self._rings:
            began = len(events)
            if not self._drain(ring, events) and len(events) > began:
                self.behind = True
                # What another CPU did later waits until this one has told what came before.
                self.settled = min(self.settled, events[-1].at)
        events.sort(key=_MOMENT)
        if not all_of_it or self.behind:
            while events and events[-1].at > self.settled:
                self._held.append(events.pop())
            self._held.reverse()
        self._names.learn(events)
        return events

    def _drain(self, ring: int, events: list[TraceEvent]) -> bool:
        """Read a ring; return whether all of it."""
        for _ in range(_MOST_PAGES):
            try:
                page = os.read(ring, self._page_size)
            except BlockingIOError:
                return True
            except OSError as error:
                raise SourceError(f"the trace buffer cannot be read: {error.strerror}") from error
            if not page:
                return True
            lost = read_page(page, self._layout, self._makers, events)
            if lost:
                self._lost_in_pages.append(lost)
        return False

    def stop(self) -> None:
        """Let no event be recorded any more; what was recorded can still be read."""
        with contextlib.suppress(OSError):
            _write(f"{self._folder}/tracing_on", "0")

    @property
    def lost(self) -> int:
        """The number of events that the buffer had no room for, by the kernel's own count."""
        if self._lost_at_end is not None:
            return self._lost_at_end
        counted = 0
        with contextlib.suppress(OSError):
            for cpu in os.listdir(f"{self._folder}/per_cpu"):
                counted += parse_lost(_read(f"{self._folder}/per_cpu/{cpu}/stats"))
        return max(counted, total_lost(self._lost_in_pages))

    def _remove(self) -> None:
        """Stop tracing and remove the instance, whatever state it is in."""
        if not self._folder:
            return
        if self._lost_at_end is None:
            self._lost_at_end = self.lost
        self.stop()
        for wanted in _WANTED:
            with contextlib.suppress(OSError):
                _write(f"{self._folder}/events/{wanted.name}/enable", "0")
        for descriptor in (*self._rings, self._keeper):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._rings, self._keeper = [], -1
        _remove_folder(self._folder)
        self._folder = ""


class Names:
    """Who the threads of events are: read from /proc while they exist, and kept as they exit."""

    def __init__(self) -> None:
        # In another PID namespace the numbers of events and those of /proc are different people's.
        self._same_numbers = _in_first_pid_namespace()
        self._known: dict[int, tuple[float, Closer]] = {}
        self._gone: dict[int, Closer] = {}
        self._pids: dict[int, int] = {}

    def of(self, tid: int) -> Closer:
        """Return what is known of a thread."""
        known = self._known.get(tid)
        return known[1] if known is not None else self._gone.get(tid, Closer(tid, None, None, None))

    def learn(self, events: list[TraceEvent]) -> None:
        """Look at the threads that events speak of, those that have exited meanwhile included."""
        now = time.monotonic()
        seen = 0
        for event in events:
            kind = type(event)
            if kind is StateChange or kind is SocketGone:
                if event.flags & IN_INTERRUPT:  # type: ignore[union-attr]
                    continue
                tid: int = event.tid  # type: ignore[union-attr]
                if tid == seen:
                    continue
                seen = tid
                known = self._known.get(tid)
                if known is None or known[0] < now:
                    self._look_at(tid, now)
            elif kind is ThreadEnds:
                self._bury(event)  # type: ignore[arg-type]
                seen = 0
            elif kind is ThreadBegins:
                self._born(event)  # type: ignore[arg-type]

    def _look_at(self, tid: int, now: float) -> None:
        # That one is gone is remembered too: looking for it at each of its events is dear.
        found = self._in_proc(tid) or self._gone.get(tid)
        if found is None:
            found = Closer(tid, self._pids.get(tid), None, None)
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        self._known[tid] = now + _NAME_SECONDS, found

    def _born(self, event: ThreadBegins) -> None:
        """Note the process of a new thread: one that lives for less than a look is not in /proc."""
        if len(self._pids) >= _MOST_NAMES:
            self._pids.clear()
        if not event.flags & _CLONE_THREAD:
            self._pids[event.tid] = event.tid
            return
        maker = self._known.get(event.maker)
        pid = self._pids.get(event.maker) or (None if maker is None else maker[1].pid)
        if pid is not None:
            self._pids[event.tid] = pid

    def _bury(self, event: ThreadEnds) -> None:
        if len(self._gone) >= _MOST_NAMES:
            self._gone.clear()
        known = self._known.pop(event.tid, None)
        found = known[1] if known is not None and known[1].name else self._in_proc(event.tid)
        pid, name = (None, None) if found is None else (found.pid, found.name)
        pid = self._pids.pop(event.tid, None) if pid is None else pid
        self._gone[event.tid] = Closer(event.tid, pid, name or event.name, event.name)

    def _in_proc(self, tid: int) -> Closer | None:
        if not self._same_numbers:
            return None
        try:
            status = _read(f"/proc/{tid}/status")
            pid = int(status.partition("\nTgid:")[2].split(None, 1)[0])
            thread = _read(f"/proc/{tid}/comm").rstrip("\n")
            name = thread if pid == tid else _read(f"/proc/{pid}/comm").rstrip("\n")
        except (OSError, ValueError, IndexError):
            return None
        return Closer(tid, pid, name, thread)


def find() -> str:
    """Return the folder of tracefs.  Raises SourceRefused, and says why there is none."""
    if sys.byteorder != "little":
        raise SourceRefused("the trace buffer is read on little-endian machines only")
    for root in ROOTS:
        try:
            os.listdir(f"{root}/instances")
            return root
        except PermissionError as error:
            raise _refusal(error) from error
        except OSError:
            continue
    if not os.path.isdir(ROOTS[0]):
        raise SourceRefused("this kernel has no tracing (tracefs)")
    raise SourceRefused(
        "tracefs is not mounted", "mount -t tracefs tracefs /sys/kernel/tracing (as root)"
    )


def sweep(root: str) -> None:
    """Remove the instances of twdiags that were killed; one whose owner lives is left alone.

    Where the owner's number means nothing here (another PID namespace), the kernel refuses to
    remove an instance that is in use.
    """
    try:
        names = os.listdir(f"{root}/instances")
    except OSError:
        return
    for name in names:
        stale = _INSTANCE.fullmatch(name)
        if stale and start_time(int(stale[1])) != stale[2]:
            with contextlib.suppress(OSError):
                os.rmdir(f"{root}/instances/{name}")


def start_time(pid: int) -> str | None:
    """Return when a process began, in clock ticks after boot, as /proc/PID/stat has it."""
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return fields[19]
    except (OSError, IndexError):
        return None


def _page_size(folder: str) -> int:
    """Return the size of one page of the buffer in bytes: a memory page, unless it says other."""
    try:
        size = int(_read(f"{folder}/buffer_subbuf_size_kb")) * 1024
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE")  # before Linux 6.8
    return min(max(size, os.sysconf("SC_PAGE_SIZE")), _LARGEST_PAGE)


def parse_lost(stats: str) -> int:
    """Return how many events a per_cpu/cpuN/stats file says were overwritten or dropped."""
    lost = 0
    for line in stats.splitlines():
        name, _, number = line.partition(":")
        if name.strip() in ("overrun", "commit overrun", "dropped events"):
            with contextlib.suppress(ValueError):
                lost += int(number)
    return lost


def _remove_folder(folder: str) -> None:
    # The last reader's reference goes a moment after its close().
    for _ in range(50):
        try:
            os.rmdir(folder)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.01)


def _in_first_pid_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _INIT_PID_NAMESPACE
    except OSError:
        return False


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(error) from error


def _refusal(error: OSError) -> SourceRefused:
    if _locked_down():
        return SourceRefused("the kernel is locked down, which forbids tracing")
    if error.errno in (errno.EACCES, errno.EPERM):
        if os.geteuid() != 0:
            return SourceRefused("tracing needs root", "run it with sudo")
        return SourceRefused("this root may not trace (a container?)", "run it on the host")
    return SourceRefused(f"a private tracing instance is refused: {error.strerror}")


def _locked_down() -> bool:
    try:
        return "[confidentiality]" in _read("/sys/kernel/security/lockdown")
    except OSError:
        return False


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    # Through os, so that what the kernel says to the value is not lost in a buffer.
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
