"""Sum up how connections ended: by listener, by destination and by process.

Bounded: beyond so many groups the others are one, and ages are kept as counts between marks.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from twdiag.closes import How, Opened, Side

if TYPE_CHECKING:
    from twdiag.closes import Close

_K = TypeVar("_K")

MOST_GROUPS: Final = 10_000
MARKS: Final = (0.001, 0.01, 0.1, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""The upper bounds of the bands that ages are counted in, in seconds; the last band is open."""


class Spread:
    """How many ages fell between the marks, and the smallest and largest."""

    def __init__(self) -> None:
        self.counts = [0] * (len(MARKS) + 1)
        self.least = self.most = 0.0

    def __len__(self) -> int:
        return sum(self.counts)

    def add(self, seconds: float) -> None:
        """Count one age."""
        if not len(self):
            self.least = self.most = seconds
        self.least, self.most = min(self.least, seconds), max(self.most, seconds)
        self.counts[bisect_left(MARKS, seconds)] += 1

    @property
    def median(self) -> tuple[float, float]:
        """The band that the middle one fell in: its bounds, cut to what was seen."""
        half, so_far = (len(self) + 1) // 2, 0
        for band, number in enumerate(self.counts):
            so_far += number
            if number and so_far >= half:
                low = MARKS[band - 1] if band else 0.0
                high = MARKS[band] if band < len(MARKS) else self.most
                return max(low, self.least), min(high, self.most)
        return 0.0, 0.0


@dataclass
class Tally:
    """How the connections of one group ended.

    `here`, `peer` and `both` are who closed first, `unknown` where that is not known; `resets` and
    `timeouts` are how they ended, of all of them.
    """

    here: int = 0
    peer: int = 0
    both: int = 0
    unknown: int = 0
    resets: int = 0
    timeouts: int = 0
    lived: Spread = field(default_factory=Spread)
    idle: Spread = field(default_factory=Spread)

    @property
    def total(self) -> int:
        """All connections of the group."""
        return self.here + self.peer + self.both + self.unknown

    def add(self, close: Close) -> None:
        """Count one connection."""
        if close.first is Side.HERE:
            self.here += 1
        elif close.first is Side.PEER:
            self.peer += 1
        elif close.first is Side.BOTH:
            self.both += 1
        else:
            self.unknown += 1
        self.resets += close.how in (How.RST, How.FIN_RST)
        self.timeouts += close.how is How.TIMEOUT
        if close.lived is not None and not close.older:
            self.lived.add(close.lived)
        if close.idle is not None:
            self.idle.add(close.idle)


class Summary:
    """All connections that were told, and the same by listener, destination and process.

    Keys: (address, port) of the local end of incoming, of the remote end of outgoing connections;
    the name of the process that closed our end.  The key None gathers what came after MOST_GROUPS.
    """

    def __init__(self) -> None:
        self.all = Tally()
        self.listeners: dict[tuple[str, int] | None, Tally] = {}
        self.destinations: dict[tuple[str, int] | None, Tally] = {}
        self.processes: dict[str | None, Tally] = {}

    def add(self, close: Close) -> None:
        """Count one connection."""
        self.all.add(close)
        if close.opened is Opened.IN:
            _in(self.listeners, (close.local, close.local_port)).add(close)
        elif close.opened is Opened.OUT:
            _in(self.destinations, (close.remote, close.remote_port)).add(close)
        if close.closer is not None and close.closer.name is not None:
            _in(self.processes, close.closer.name).add(close)


def _in(groups: dict[_K | None, Tally], key: _K) -> Tally:
    found = groups.get(key)
    if found is None:
        if len(groups) >= MOST_GROUPS:
            return groups.setdefault(None, Tally())
        found = groups[key] = Tally()
    return found


def largest(groups: dict[_K | None, Tally]) -> list[tuple[_K | None, Tally]]:
    """Return groups, those with the most connections first, the rest (None) last."""
    return sorted(groups.items(), key=lambda item: (item[0] is None, -item[1].total))
