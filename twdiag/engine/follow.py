"""Tell each TCP connection's end as it happens, from the best source that this process may use.

The trace events know who closed and why, on the whole host; the announcements of dead sockets know
which ones are this network namespace's, and their traffic.  Together they tell all of it; without
the right to trace, the announcements and what a connection leaves behind tell most.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.analysis.closes import Clock
from twdiag.engine.following import Announced, Both, Followed, Sources, moment
from twdiag.errors import SourceError, SourceRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twdiag.model.closes import Close

SOURCES: Final = ("auto", "tracefs", "multicast")

_COLLECT_AFTER: Final = 500_000
# 4,000 ends at about 1 KiB each, and as many connections' events: a quarter of a second of CPU.
_SMALL_ROOM: Final = 4 << 20
_SMALL_KIB: Final = 2048


@dataclass(frozen=True)
class TraceRequest:
    """What to tell: any of these ports at either end, any of these processes (name or PID).

    `netns` is the namespace to look in, as --netns has it.  With `small`, little is kept for later,
    so that what has piled up is soon read.
    """

    ports: frozenset[int] = frozenset()
    processes: frozenset[str] = frozenset()
    seconds: float | None = None
    source: str = "auto"
    netns: str | None = None
    small: bool = False

    def asks_for_ports(self, local: int, remote: int) -> bool:
        """Return whether a connection between these ports is asked for."""
        return not self.ports or local in self.ports or remote in self.ports

    def asks_for(self, close: Close) -> bool:
        """Return whether a connection is asked for."""
        if not self.asks_for_ports(close.local_port, close.remote_port):
            return False
        if not self.processes:
            return True
        who = close.closer
        if who is None:
            return False
        return not self.processes.isdisjoint((who.name, who.thread, str(who.pid), str(who.tid)))


@contextlib.contextmanager
def follow(request: TraceRequest, say: Callable[[str], None]) -> Iterator[Followed]:
    """Follow the ends of connections; nothing that ends from then on is missed.

    `say` gets a sentence where the best source cannot be had.  Raises SourceError where there is no
    source at all.
    """
    with contextlib.ExitStack() as stack:
        sources = _open(request, say, stack)
        clock = Clock(time.time_ns() - moment(), moment())
        stack.enter_context(_few_collections())
        yield (
            Both(sources, clock, request.asks_for_ports)
            if sources.tracer
            else Announced(sources, clock)
        )


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Let the garbage collector look seldom: each burst of events is a heap of small tuples."""
    import gc

    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _open(
    request: TraceRequest, say: Callable[[str], None], stack: contextlib.ExitStack
) -> Sources:
    """Open the announcements first, so that no traced end is missed among them."""
    from twdiag.sources.live.tracing.destroy_events import ROOM, Announcements
    from twdiag.sources.live.tracing.left_behind import LeftBehind
    from twdiag.sources.live.tracing.tracer import BUFFER_KIB, Tracer

    found = Sources()
    no_announcements = no_tracing = None
    room, kib = (_SMALL_ROOM, _SMALL_KIB) if request.small else (ROOM, BUFFER_KIB)
    try:
        found.announcements = stack.enter_context(Announcements(room))
        found.left_behind = stack.enter_context(LeftBehind())
    except SourceRefused as error:
        no_announcements = error
    if request.source != "multicast":
        try:
            found.tracer = stack.enter_context(Tracer(request.ports, kib))
        except SourceRefused as error:
            no_tracing = error
    if no_tracing is not None and request.source == "tracefs":
        raise no_tracing
    if request.source == "multicast" and no_announcements is not None:
        raise no_announcements
    if no_announcements is not None and no_tracing is not None:
        raise SourceError(
            f"no source tells of ending connections: {no_tracing.what}; {no_announcements.what}",
            f"{no_tracing.next_step}; {no_announcements.next_step}".strip("; "),
        )
    if request.netns is not None and no_announcements is not None:
        raise SourceError(
            f"which connections are those of {request.netns} is not to be seen: "
            f"{no_announcements.what}",
            no_announcements.next_step,
        )
    if request.processes and found.tracer is None:
        why = no_tracing.what if no_tracing else "--source multicast does not know processes"
        how = no_tracing.next_step if no_tracing else "leave out --source"
        raise SourceError(f"which process closes is not to be seen: {why}", how)
    if no_tracing is not None:
        step = f" ({no_tracing.next_step})" if no_tracing.next_step else ""
        say(f"{no_tracing.what}, so no process is named{step}; who closed first is inferred")
    if no_announcements is not None:
        say(
            f"{no_announcements.what}, so bytes and idle times are missing, and the connections of "
            "all network namespaces of this host are told"
        )
    return found
