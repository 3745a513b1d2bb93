"""The connections that this host's clients made, counted by destination."""

from __future__ import annotations

from array import array
from collections import Counter
from functools import cached_property
from itertools import compress, islice
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import is_ipv6
from twdiag.census.columns import chosen, packed
from twdiag.census.groups import Destination, history_of
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.census.client_rows import ClientRows, Rows
    from twdiag.model.ports import PortBudget

Tuple3 = tuple[int, int, int]
"""(source address number, destination address number, destination port)"""

NOT_TIMED: Final = 128
"""A moment is the second in which a TIME_WAIT began, or for other states NOT_TIMED + the state."""

_MOST_DESTINATIONS: Final = 250
"""How many destinations are looked at in detail: the largest."""
_FEW_SOCKETS: Final = 64
_MANY_ROWS: Final = 100_000
_SAMPLE: Final = 8_192
_BUCKETS: Final = 65_521  # a prime below 2**16, so that every part of a key counts


class Connections:
    """Client rows counted by destination.

    `frequent` has the rows of the frequent destinations at each moment, `others` the rows of the
    other ones.  On hosts with very many connections, destinations with so few sockets that no rule
    minds them are not told apart, so that memory stays bounded; `left_out` counts their rows.
    """

    def __init__(
        self,
        rows: ClientRows,
        frequent: Mapping[int, Counter[int]],
        others: Rows,
        budget: PortBudget,
    ) -> None:
        self._rows = rows
        self._frequent = frequent
        self._others = others
        self._budget = budget

    @cached_property
    def _counts(self) -> Counter[int]:
        """How many rows each key has, without the rows left out."""
        least = max(1, min(_FEW_SOCKETS, self._budget.ports // 20))
        counts = _counted(self._others.keys, least)
        counts.update({key: moments.total() for key, moments in self._frequent.items()})
        return counts

    @property
    def left_out(self) -> int:
        """Rows to destinations that are not told apart."""
        return self._rows.count - self._counts.total()

    @cached_property
    def _largest(self) -> list[tuple[int, int]]:
        """The keys with the most rows, and how many."""
        # Of very many destinations nearly all have one socket: no need to sort those.
        counts = self._counts
        several = Counter({key: count for key, count in counts.items() if count > 1})
        largest = several.most_common(_MOST_DESTINATIONS)
        singles = ((key, 1) for key, count in counts.items() if count == 1)
        return largest + list(islice(singles, _MOST_DESTINATIONS - len(largest)))

    def by_destination(self) -> Counter[Tuple3]:
        """Return how many sockets there are to each (source, destination, port)."""
        return Counter({self._tuple3(key): n for key, n in self._counts.items()})

    def busiest(self) -> tuple[Tuple3, int] | None:
        """Return the destination with the most sockets, and how many; None without any."""
        return (self._tuple3(self._largest[0][0]), self._largest[0][1]) if self._largest else None

    def fullest_by_source(self) -> dict[int, int]:
        """Return the most sockets to one destination from each source address."""
        fullest: dict[int, int] = {}
        for key, count in reversed(self._largest):
            fullest[self._rows.sources[key >> 16 & 0xFFFF]] = count
        return fullest

    def remote_ports(self) -> set[int]:
        """Return the distinct remote ports."""
        if self.left_out:
            return set(compress(self._rows.table.dport, self._rows.mask))
        return {key & 0xFFFF for key in self._counts}

    def local_ports(self) -> dict[int, set[int]]:
        """Return the distinct local ports of each source address."""
        rows, usable = self._rows, self._budget.usable_mask
        src, sport = rows.table.src, rows.table.sport
        if rows.few:
            src, sport = chosen(src, rows.mask), chosen(sport, rows.mask)
        # Else no row needs to be picked: only these have a port that connect() may hand out.
        places = rows.source_places(src)
        if places is None:
            ports = {port for port in set(sport) if usable[port]}
            return {rows.sources[0]: ports} if ports else {}
        found: dict[int, set[int]] = {}
        for key in set(packed(None, places, sport)):
            if usable[key & 0xFFFF]:
                found.setdefault(rows.sources[key >> 16], set()).add(key & 0xFFFF)
        return found

    def _tuple3(self, key: int) -> Tuple3:
        source = self._rows.sources[key >> 16 & 0xFFFF]
        address = key >> 32 | (1 << 32 if is_ipv6(source) else 0)
        return source, address, key & 0xFFFF

    def destinations(self, at_least: int, reuse_delay_ms: int) -> list[Destination]:
        """Return the destinations with so many sockets or more, the largest first.

        `young` counts their TIME_WAITs younger than the delay before tcp_tw_reuse applies, in whole
        seconds rounded up.  At most _MOST_DESTINATIONS are returned.
        """
        young_seconds = -(-reuse_delay_ms // 1000)
        found = []
        for key, count in self._largest:
            if count < at_least:
                break
            seconds, states = _parted(self._moments_of[key])
            young = sum(count for second, count in seconds.items() if second < young_seconds)
            found.append(Destination(*self._tuple3(key), states, history_of(seconds), young))
        return sorted(found, key=lambda d: (-d.sockets, d.source, d.address, d.port))

    @cached_property
    def _moments_of(self) -> Mapping[int, Counter[int]]:
        """For each of the largest destinations, how many rows began at each moment."""
        missing = [key for key, _ in self._largest if key not in self._frequent]
        return {**self._frequent, **self._others.moments_of(missing)} if missing else self._frequent


def _counted(keys: array[int], least: int) -> Counter[int]:
    """Return how many rows each key has; of very many keys, those with fewer than `least` may miss.

    A destination with many sockets makes its bucket large; the rest of the rows need no key of
    their own.
    """
    if len(keys) <= _MANY_ROWS or 4 * len(set(keys[:: len(keys) // _SAMPLE + 1])) < _SAMPLE:
        return Counter(keys)
    buckets = array("H", map(_BUCKETS.__rmod__, keys))
    heavy = {bucket for bucket, count in Counter(buckets).items() if count >= least}
    return Counter(compress(keys, map(heavy.__contains__, buckets)))


def _parted(moments: Counter[int]) -> tuple[Counter[int], Counter[State]]:
    """Return (TIME_WAITs per second, sockets per state) of the rows at each moment."""
    seconds = Counter({m: count for m, count in moments.items() if m < NOT_TIMED})
    states = Counter({State(m - NOT_TIMED): n for m, n in moments.items() if m >= NOT_TIMED})
    if seconds:
        states[State.TIME_WAIT] = seconds.total()
    return seconds, states
