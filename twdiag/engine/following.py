"""Follow the ends of connections: by trace events and announcements, or by these alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from twdiag.analysis.closes import Join
from twdiag.analysis.inferred_closes import Inference, Remains, is_connection, needs_listener
from twdiag.analysis.tracks import Fold
from twdiag.errors import SourceError
from twdiag.model.closes import Losses
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.analysis.closes import Clock
    from twdiag.analysis.tracks import Track
    from twdiag.model.closes import Close, Death, ResetSent
    from twdiag.sources.live.tracing.destroy_events import Announcements
    from twdiag.sources.live.tracing.left_behind import LeftBehind
    from twdiag.sources.live.tracing.tracer import Tracer

_BUSY, CALM = 0.05, 0.1
_GATHER: Final = 0.003  # at 20,000 closes a second, a quarter of a plain user's room
_BATCH: Final = 256
_MOST_AT_ONCE: Final = 20_000  # they may come faster than they are read
# A simultaneous close shows in both ends' rows; the second end dies a round trip later.
_BOTH_ENDS: Final = 30_000_000
# The announcement goes through a queue of the kernel, and waits for the last packet to be freed.
_ANNOUNCED: Final = 1_000_000_000
_TRACED: Final = 300_000_000
_STILL_OPEN: Final = 2_000_000_000
_LISTENER_SECONDS: Final = 1.0
_NOT_ASKED: Final = (0.0, False)
_MOST_LISTENERS: Final = 10_000
FOREVER: Final = 1 << 63


@dataclass
class Sources:
    """The sources that could be opened."""

    tracer: Tracer | None = None
    announcements: Announcements | None = None
    left_behind: LeftBehind | None = None

    @property
    def sees_lost(self) -> bool:
        """Whether a RST to data for a closed connection would be seen."""
        return self.tracer is not None and self.tracer.tells_refused

    @property
    def name(self) -> str:
        if self.tracer is None:
            return "multicast"
        return "tracefs" if self.announcements is None else "tracefs+multicast"


class Followed(Protocol):
    """The ends of connections while they are followed from the best source there is.

    `source` is "tracefs+multicast", "tracefs" or "multicast"; `clock` began when it was opened.
    `sees_lost` says whether refused() tells of every RST to data for a closed connection.
    """

    source: str
    clock: Clock
    sees_lost: bool

    def pause(self, most: float) -> None:
        """Wait until there may be something to read, at most so many seconds."""

    def waits_for(self) -> list[int]:
        """Return the descriptors that can be read when something has ended; none: look again."""

    def step(self) -> list[Close]:
        """Return what has ended since the last step."""

    def refused(self) -> list[ResetSent]:
        """Return, once, the RSTs that answered data for connections that this end had closed."""

    def finish(self) -> list[Close]:
        """Stop, and return what is left to tell."""

    def sample(self, seconds: float) -> tuple[list[Close], float]:
        """Return what ends until so many seconds after the opening, and after how many it stopped.

        It is for a source that was just opened, and nothing can be read of it afterwards.
        """

    def losses(self) -> Losses:
        """Return what was not told."""


class Both:
    """Follows the trace events, joined with the announcements where there are any."""

    def __init__(self, sources: Sources, clock: Clock, asks: Callable[[int, int], bool]) -> None:
        assert sources.tracer is not None
        self.source, self.clock, self.sees_lost = sources.name, clock, sources.sees_lost
        self._asks = asks
        self._tracer = sources.tracer
        self._announcements = sources.announcements
        self._left_behind = sources.left_behind
        self._fold = Fold()
        self._join = Join(
            clock, self._tracer.names.of, deaths_matter=sources.announcements is not None
        )
        self._inference = Inference(clock, {})
        self._unannounced = 0
        self._unplaced = 0
        self._own = _OwnAddresses()
        self._busy = True
        self._behind = False

    def pause(self, most: float) -> None:
        if not self._behind:
            time.sleep(max(0.0, min(most, _BUSY if self._busy else CALM)))

    def waits_for(self) -> list[int]:
        return []  # a ring wakes nobody before it is half full

    def step(self) -> list[Close]:
        closes = self._read()
        now = self._tracer.settled
        self._busy = bool(closes)
        closes += self._infer(self._join.untold(now - _TRACED))
        self._unannounced += len(self._join.unannounced(now - _ANNOUNCED))
        closes += self._still_open(self._fold.still_open(now - _STILL_OPEN))
        return closes

    def _read(self, *, all_of_it: bool = False) -> list[Close]:
        finished = self._fold.feed(self._tracer.read(all_of_it=all_of_it))
        closes = list(self._join.ended(finished))
        self._behind = self._tracer.behind
        if self._announcements is not None:
            deaths = self._announcements.read(_MOST_AT_ONCE)
            self._behind |= len(deaths) >= _MOST_AT_ONCE
            closes += self._join.died(deaths)
        return closes

    def _read_all(self) -> list[Close]:
        closes = self._read(all_of_it=True)
        while self._behind:
            closes += self._read(all_of_it=True)
        return closes

    def _infer(self, deaths: list[Death]) -> list[Close]:
        """Tell what only the announcement knows of: its trace events were lost, or came before."""
        connections = [
            death
            for death in deaths
            if is_connection(death) and self._asks(death.local_port, death.remote_port)
        ]
        if not connections or self._left_behind is None:
            return []
        remains = _remains(self._left_behind, connections, {})
        return self._inference.tell(remains)

    def _still_open(self, tracks: list[Track]) -> list[Close]:
        closes = []
        for track in tracks:
            close = self._join.tell(track, None, None)
            if self._announcements is None or self._own.holds(close.local):
                closes.append(close)
            else:
                self._unplaced += 1
        return closes

    def finish(self) -> list[Close]:
        self._tracer.stop()
        stopped = moment()
        closes = self._read_all()
        if self._announcements is not None:
            time.sleep(CALM)  # for the last announcements
            closes += self._read(all_of_it=True)
        # What ends after the stop leaves no trace event, as what was lost does.
        closes += self._infer(self._join.untold(FOREVER if self._tracer.lost else stopped))
        self._unannounced += len(self._join.unannounced(FOREVER))
        return closes + self._still_open(self._fold.still_open(FOREVER))

    def sample(self, seconds: float) -> tuple[list[Close], float]:
        time.sleep(max(0.0, seconds - self._passed()))
        self._tracer.stop()
        passed = self._passed()
        closes = self._read_all()
        if self._announcements is not None:
            time.sleep(_GATHER)  # for the last announcements
            closes += self._join.died(self._announcements.read(_MOST_AT_ONCE))
        return closes, passed

    def _passed(self) -> float:
        return (moment() - self.clock.began) / 1e9

    def refused(self) -> list[ResetSent]:
        return self._fold.refused()

    def losses(self) -> Losses:
        lost = None if self._announcements is None else self._announcements.lost
        elsewhere = max(0, self._unannounced - (lost or 0))
        return Losses(self._tracer.lost, lost, elsewhere, self._unplaced)


class Announced:
    """Follows the announcements alone, and asks at once what each connection left behind."""

    def __init__(self, sources: Sources, clock: Clock) -> None:
        assert sources.announcements is not None
        assert sources.left_behind is not None
        self.source, self.clock, self.sees_lost = sources.name, clock, sources.sees_lost
        self._announcements = sources.announcements
        self._left_behind = sources.left_behind
        self._inference = Inference(clock, _counters())
        self._held: list[Remains] = []
        self._batch: _Batch | None = None
        self._listeners: dict[tuple[bytes, int], tuple[float, bool]] = {}

    def pause(self, most: float) -> None:
        if self._held or self._batch:
            most = min(most, _BOTH_ENDS / 1e9)
        self._announcements.wait(max(0.0, most))
        time.sleep(_GATHER)

    def waits_for(self) -> list[int]:
        return [self._announcements.fileno()]

    def step(self) -> list[Close]:
        now = moment()
        if self._batch is not None and now - self._batch.at < _BOTH_ENDS:
            self._take_in()
            return []
        closes = self._tell_batch()
        before = _counters()
        self._take_in()
        if self._held:
            self._batch = _Batch(now, self._held, before, _counters())
            self._held = []
        return closes

    def _tell_batch(self) -> list[Close]:
        """Tell a batch once the other ends of its connections have had the time to die."""
        batch, self._batch = self._batch, None
        if batch is None:
            return []
        waiting = [remains for remains in self._held if remains.left is State.TIME_WAIT]
        return self._inference.tell(batch.remains, batch.before, batch.after, waiting)

    def _take_in(self) -> None:
        """Look at what has died in small portions: the kernel's room for the rest is small."""
        while True:
            deaths = self._announcements.read(_BATCH)
            connections = [death for death in deaths if is_connection(death)]
            self._held += _remains(self._left_behind, connections, self._listeners)
            if len(deaths) < _BATCH or len(self._held) >= 16 * _BATCH:
                return

    def finish(self) -> list[Close]:
        closes = self._tell_batch()
        time.sleep(_BUSY)  # for the last announcements
        before = _counters()
        while True:
            known = len(self._held)
            self._take_in()
            if len(self._held) == known:
                break
        self._batch = _Batch(moment(), self._held, before, _counters())
        self._held = []
        return closes + self._tell_batch()

    def sample(self, seconds: float) -> tuple[list[Close], float]:
        closes: list[Close] = []
        end = self.clock.began + int(seconds * 1e9)
        while (left := end - moment()) > 0:
            self._announcements.wait(left / 1e9)
            closes += self.step()
        passed = (moment() - self.clock.began) / 1e9
        closes += self._tell_batch()
        counters = _counters()
        self._batch, self._held = _Batch(moment(), self._held, counters, counters), []
        return closes + self._tell_batch(), passed

    def refused(self) -> list[ResetSent]:
        return []

    def losses(self) -> Losses:
        return Losses(announcements=self._announcements.lost)


class _Batch(NamedTuple):
    """Dead sockets that arrived together, and the counters right before and after."""

    at: int
    remains: list[Remains]
    before: Mapping[str, int]
    after: Mapping[str, int]


def _remains(
    left_behind: LeftBehind,
    deaths: list[Death],
    listeners: dict[tuple[bytes, int], tuple[float, bool]],
) -> list[Remains]:
    """Return what dead connections left, and whether a listener has their local ends.

    `listeners` keeps the answers for a second.
    """
    if not deaths:
        return []
    states = left_behind.states(deaths)
    now = time.monotonic()
    if len(listeners) > _MOST_LISTENERS:
        listeners.clear()
    unclear = [death for death in deaths if needs_listener(death)]
    unknown = {
        (death.local, death.local_port): death
        for death in unclear
        if listeners.get((death.local, death.local_port), _NOT_ASKED)[0] < now
    }
    for place, listens in zip(unknown, left_behind.listen(list(unknown.values())), strict=True):
        listeners[place] = now + _LISTENER_SECONDS, listens
    return [
        Remains(death, state, listeners.get((death.local, death.local_port), _NOT_ASKED)[1])
        for death, state in zip(deaths, states, strict=True)
    ]


class _OwnAddresses:
    """The addresses of this network namespace, which those of other ones may equal."""

    def __init__(self) -> None:
        self._until = 0.0
        self._addresses: frozenset[str] = frozenset()
        self._alone = False

    def holds(self, address: str) -> bool:
        """Return whether an address is surely this namespace's."""
        from twdiag.sources.live.addresses import read_addresses
        from twdiag.sources.live.namespaces.others import other_namespaces

        if time.monotonic() >= self._until:
            self._until = time.monotonic() + 10.0
            self._addresses = read_addresses()
            self._alone = not other_namespaces()
        if self._alone:
            return True
        loopback = address.startswith("127.") or address == "::1"
        return address in self._addresses and not loopback


def _counters() -> Mapping[str, int]:
    from twdiag.sources.live.proc import parse_counters, read_text

    text = read_text("/proc/net/netstat")
    if text is None:
        return {}
    try:
        return parse_counters(text)
    except SourceError:
        return {}


def moment() -> int:
    """Return the time of CLOCK_MONOTONIC, ns."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
