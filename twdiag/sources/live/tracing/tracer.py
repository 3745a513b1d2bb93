"""Read TCP's trace events through a private tracing instance, the one thing that trace makes.

The instance is a folder in tracefs of its own buffers and switches; no other user's tracing is
touched.  It is removed at the end.  Should this process be killed, the kernel stops it by itself
(free_buffer with the option disable_on_free), and the next start removes what is left.
"""

from __future__ import annotations

import contextlib
import os
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live.proc import start_of
from twdiag.sources.live.tracing.thread_names import ThreadNames
from twdiag.sources.live.tracing.trace_buffer import (
    parse_format,
    parse_header_page,
    read_page,
    total_lost,
)
from twdiag.sources.live.tracing.tracefs import (
    find,
    page_size,
    parse_lost,
    read,
    refusals,
    remove_folder,
    sweep,
    write,
)
from twdiag.sources.live.tracing.wanted_events import (
    MOST_PORTS,
    STATES,
    WANTED,
    WantedEvent,
    ends_of_reset,
    reset_sent,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from twdiag.model.closes import TraceEvent
    from twdiag.sources.live.tracing.wanted_events import EventMaker

BUFFER_KIB: Final = 65_536
"""The buffers of all CPUs together: 2 s of 10,000 connections a second, both ends here."""
_MOST_PAGES: Final = 1024
"""The pages of one CPU that are read at a time: some 40,000 events."""
_LEAST_KIB, _MOST_KIB = 256, 16_384
# CPUs are read one after the other: an event older than one already read can still turn up.
_SETTLED_NS: Final = 2_000_000
_MOMENT: Final = itemgetter(0)


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
        self._makers: dict[int, EventMaker] = {}
        self._held: list[TraceEvent] = []
        self.behind = False
        """Whether the last read() left more to be read at once."""
        self.settled = 0
        """The moment up to which it has returned all, ns."""
        self._lost_in_pages: list[int] = []
        self._lost_at_end: int | None = None
        self._names = ThreadNames()
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
    def names(self) -> ThreadNames:
        """The names of the threads that events speak of."""
        return self._names

    def _start(self) -> None:
        folder = f"{self._root}/instances/twdiag-{os.getpid()}-{start_of(os.getpid())}"
        with refusals():
            os.mkdir(folder, 0o700)
        self._folder = folder
        with refusals():
            write(f"{folder}/options/disable_on_free", "1")
            self._keeper = os.open(f"{folder}/free_buffer", os.O_WRONLY | os.O_CLOEXEC)
            write(f"{folder}/trace_clock", "mono")
            cpus = sorted(os.listdir(f"{folder}/per_cpu"))
            share = min(max(self._kib // len(cpus), _LEAST_KIB), _MOST_KIB)
            write(f"{folder}/buffer_size_kb", str(share))
            self._layout = parse_header_page(read(f"{self._root}/events/header_page"))
            self._page_size = page_size(folder)
            for cpu in cpus:
                path = f"{folder}/per_cpu/{cpu}/trace_pipe_raw"
                self._rings.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            self._enable()

    def _enable(self) -> None:
        """Switch the events on, the ends of sockets last: none is told without its beginning."""
        present = []
        for wanted in WANTED:
            path = f"{self._folder}/events/{wanted.name}"
            if not os.path.isdir(path):
                if wanted.needed:
                    raise SourceRefused(
                        f"this kernel has no trace event {wanted.name}", "it needs Linux 4.18"
                    )
                continue
            try:
                found = parse_format(read(f"{path}/format"))
                self._makers[found.number] = wanted.maker(found)
                if wanted.maker is reset_sent:
                    self.tells_refused = bool(ends_of_reset(found))
            except SourceError as error:
                raise SourceRefused(
                    f"the trace event {wanted.name} is another one on this kernel: {error.what}",
                    "it needs Linux 4.18",
                ) from error
            if wanted.filter:
                write(f"{path}/filter", wanted.filter + self._only_ports(wanted))
            present.append(path)
        for path in reversed(present):
            write(f"{path}/enable", "1")

    def _only_ports(self, wanted: WantedEvent) -> str:
        if wanted.filter != STATES or not 0 < len(self._ports) <= MOST_PORTS:
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
            write(f"{self._folder}/tracing_on", "0")

    @property
    def lost(self) -> int:
        """The number of events that the buffer had no room for, by the kernel's own count."""
        if self._lost_at_end is not None:
            return self._lost_at_end
        counted = 0
        with contextlib.suppress(OSError):
            for cpu in os.listdir(f"{self._folder}/per_cpu"):
                counted += parse_lost(read(f"{self._folder}/per_cpu/{cpu}/stats"))
        return max(counted, total_lost(self._lost_in_pages))

    def _remove(self) -> None:
        """Stop tracing and remove the instance, whatever state it is in."""
        if not self._folder:
            return
        if self._lost_at_end is None:
            self._lost_at_end = self.lost
        self.stop()
        for wanted in WANTED:
            with contextlib.suppress(OSError):
                write(f"{self._folder}/events/{wanted.name}/enable", "0")
        for descriptor in (*self._rings, self._keeper):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._rings, self._keeper = [], -1
        remove_folder(self._folder)
        self._folder = ""
