"""Sum up how connections ended: by listener, by destination and by process.

Bounded: beyond so many groups the others are one, and ages are kept as counts between marks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from twdiag.model.closes import ClosedBy, How, Losses, Opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.closes import Close
    from twdiag.model.findings import Finding
    from twdiag.model.idling import Watched

    _End = tuple[str, int]
    _Counts = dict[int, int]  # how many of each kind

_K = TypeVar("_K")

_IN, _OUT = Opened.IN, Opened.OUT

MOST_GROUPS: Final = 10_000
MARKS: Final = (0.001, 0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 3600.0)
"""The upper bounds of the bands that ages are counted in, in seconds; the last band is open."""

TICK: Final = 0.01
"""The longest tick of the kernel's clock (HZ=100), in which what a socket leaves behind counts."""


class Spread(NamedTuple):
    """How many ages fell between the marks."""

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many ages there were."""
        return sum(self.counts)

    @property
    def median(self) -> tuple[float, float | None] | None:
        """The bounds of the band that the middle one fell in; the last band has no upper one."""
        half, so_far = (self.total + 1) // 2, 0
        for band, number in enumerate(self.counts):
            so_far += number
            if number and so_far >= half:
                return band_of(band)
        return None


def band_of(band: int) -> tuple[float, float | None]:
    """Return the bounds of a band, in seconds; the last has no upper one."""
    return MARKS[band - 1] if band else 0.0, MARKS[band] if band < len(MARKS) else None


@dataclass(frozen=True)
class CloseTally:
    """How the connections of one group ended.

    `here`, `peer` and `both` are who closed first, `unknown` where that is not known; `resets` and
    `timeouts` are how they ended, of all of them.
    """

    here: int
    peer: int
    both: int
    unknown: int
    resets: int
    timeouts: int
    lived: Spread
    idle: Spread

    @property
    def total(self) -> int:
        """All connections of the group."""
        return self.here + self.peer + self.both + self.unknown


CloseKind = tuple["ClosedBy | None", "How | None", int, int]
"""Who closed first, how, and the bands of lifetime and idle time, -1 for not known."""


def tally(kinds: Mapping[CloseKind, int]) -> CloseTally:
    """Return what the connections of these kinds are together."""
    lived, idle = [0] * (len(MARKS) + 2), [0] * (len(MARKS) + 2)  # the last is that of -1
    firsts: Counter[ClosedBy | None] = Counter()
    hows: Counter[How | None] = Counter()
    for (first, how, lived_band, idle_band), number in kinds.items():
        firsts[first] += number
        hows[how] += number
        lived[lived_band] += number
        idle[idle_band] += number
    return CloseTally(
        firsts[ClosedBy.HERE],
        firsts[ClosedBy.PEER],
        firsts[ClosedBy.BOTH],
        firsts[None],
        hows[How.RST] + hows[How.FIN_RST],
        hows[How.TIMEOUT],
        Spread(tuple(lived[:-1])),
        Spread(tuple(idle[:-1])),
    )


class Summary:
    """All connections that were told, and the same by listener, destination and process.

    Keys: (address, port) of the local end of incoming, of the remote end of outgoing connections;
    the name of the process that closed our end.  The key None gathers what came after MOST_GROUPS.
    """

    def __init__(self) -> None:
        # Kinds are numbered: hashing one with its enums costs as much as all the rest.
        self._numbers: dict[CloseKind, int] = {}
        self._all: _Counts = {}
        self._listeners: dict[_End | None, _Counts] = {}
        self._destinations: dict[_End | None, _Counts] = {}
        self._processes: dict[str | None, _Counts] = {}
        self.within = 0
        """Ends of connections within this host: each of these has two that can be told."""

    def add(self, close: Close) -> None:
        """Count one connection."""
        lived, idle = close.lived, close.idle
        least = 0.0 if close.observed else TICK
        self.within += close.local == close.remote or close.remote.startswith("127.")
        found = (
            close.first,
            close.how,
            -1 if lived is None or close.older else bisect_left(MARKS, max(lived, least)),
            -1 if idle is None else bisect_left(MARKS, max(idle, least)),
        )
        kind = self._numbers.setdefault(found, len(self._numbers))
        self._all[kind] = self._all.get(kind, 0) + 1
        if close.opened is _IN:
            _count(self._listeners, (close.local, close.local_port), kind)
        elif close.opened is _OUT:
            _count(self._destinations, (close.remote, close.remote_port), kind)
        closer = close.closer
        if closer is not None and closer.name is not None:
            _count(self._processes, closer.name, kind)

    @property
    def all(self) -> CloseTally:
        """All connections."""
        return self._tally(self._all)

    @property
    def listeners(self) -> list[tuple[_End | None, CloseTally]]:
        """The incoming connections by their listener, the busiest first, the rest (None) last."""
        return self._largest(self._listeners)

    @property
    def destinations(self) -> list[tuple[_End | None, CloseTally]]:
        """The outgoing connections by destination, the busiest first, the rest (None) last."""
        return self._largest(self._destinations)

    @property
    def processes(self) -> list[tuple[str | None, CloseTally]]:
        """The connections by the process that closed our end, the busiest first."""
        return self._largest(self._processes)

    def _tally(self, counts: _Counts) -> CloseTally:
        kinds = list(self._numbers)
        return tally({kinds[number]: times for number, times in counts.items()})

    def _largest(self, groups: dict[_K | None, _Counts]) -> list[tuple[_K | None, CloseTally]]:
        tallies = [(key, self._tally(counts)) for key, counts in groups.items()]
        return sorted(tallies, key=lambda item: (item[0] is None, -item[1].total))


def _count(groups: dict[_K | None, _Counts], key: _K, kind: int) -> None:
    found = groups.get(key)
    if found is None:
        found = groups.setdefault(None if len(groups) >= MOST_GROUPS else key, {})
    found[kind] = found.get(kind, 0) + 1


@dataclass
class TraceOutcome:
    """What was told, for how long, from where, and what was lost.

    `source` is "tracefs+multicast", "tracefs" or "multicast"; `began` is Unix time.  `watched` is
    how connections idled meanwhile, `findings` what the rules say to that.
    """

    source: str
    began: float
    seconds: float = 0.0
    summary: Summary = field(default_factory=Summary)
    losses: Losses = field(default_factory=Losses)
    watched: Watched | None = None
    findings: tuple[Finding, ...] = ()
