"""The connections that this host's clients made, counted by destination."""

from __future__ import annotations

from array import array
from collections import Counter
from functools import cached_property
from itertools import compress, islice, repeat
from typing import TYPE_CHECKING, Final

from twdiag.columns import chosen, looked_up, low_words, packed, paired
from twdiag.groups import Destination, history_of
from twdiag.table import is_ipv6
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.groups import Endpoint
    from twdiag.table import SocketTable

Tuple3 = tuple[int, int, int]
"""(source address number, destination address number, destination port)"""

NOT_TIMED: Final = 128
"""A moment is the second in which a TIME_WAIT began, or for other states NOT_TIMED + the state."""

_MOST_DESTINATIONS: Final = 250
"""How many destinations are looked at in detail: the largest; a byte numbers them."""
_FEW_SOCKETS: Final = 64
_MANY_ROWS: Final = 100_000
_SAMPLE: Final = 8_192
_BUCKETS: Final = 65_521  # a prime below 2**16, so that every part of a key counts


class Connections:
    """The client side of a table: the rows of a mask, each with its moment.

    On hosts with very many connections, destinations with so few sockets that no rule minds them
    are not told apart, so that memory stays bounded; `left_out` counts their rows.
    """

    def __init__(self, table: SocketTable, mask: bytes, moments: bytes, ports: int) -> None:
        self._table = table
        self._mask = mask
        self._all_moments = moments
        self._ports = ports

    # Picking the rows of a column takes longer than packing whole columns does: a column is picked
    # only where it is needed by itself.

    @cached_property
    def _sport(self) -> array[int]:
        return chosen(self._table.sport, self._mask)

    @cached_property
    def _moments(self) -> bytes:
        if 0 not in self._mask:
            return self._all_moments
        return bytes(compress(self._all_moments, self._mask))

    @cached_property
    def _sources(self) -> list[int]:
        return list(set(compress(self._table.src, self._mask)))

    @cached_property
    def _keys(self) -> array[int]:
        """(destination, place of the source, port) of each row; the source tells the family."""
        table, mask = self._table, self._mask
        if len(self._sources) <= 1:
            return chosen(packed(low_words(table.dst), None, table.dport), mask)
        # A host has far fewer than 65,536 local addresses; what is beyond shares a place.
        number = {address: min(n, 0xFFFF) for n, address in enumerate(self._sources)}
        sources = chosen(table.src, mask)
        if len(number) <= 256:
            places = paired(bytes(len(sources)), looked_up(number, sources))
        else:
            places = array("H", map(number.__getitem__, sources))
        return packed(chosen(low_words(table.dst), mask), places, chosen(table.dport, mask))

    @cached_property
    def _counted(self) -> tuple[Counter[int], int]:
        """How many rows each key has, and how many rows were left out."""
        keys = self._keys
        sample = set(islice(keys, _SAMPLE))
        if len(keys) <= _MANY_ROWS or 4 * len(sample) < _SAMPLE:
            return Counter(keys), 0
        # A destination with many sockets makes its bucket large; the rest of the rows need no key
        # of their own.
        buckets = array("H", map(_BUCKETS.__rmod__, keys))
        least = max(1, min(_FEW_SOCKETS, self._ports // 20))
        heavy = {bucket for bucket, count in Counter(buckets).items() if count >= least}
        counts = Counter(compress(keys, map(heavy.__contains__, buckets)))
        return counts, len(keys) - sum(counts.values())

    @property
    def left_out(self) -> int:
        """Rows to destinations that are not told apart."""
        return self._counted[1]

    @cached_property
    def _largest(self) -> list[tuple[int, int]]:
        """The keys with the most rows, and how many."""
        # Of very many destinations nearly all have one socket: no need to sort those.
        counts = self._counted[0]
        several = Counter({key: count for key, count in counts.items() if count > 1})
        largest = several.most_common(_MOST_DESTINATIONS)
        singles = ((key, 1) for key, count in counts.items() if count == 1)
        return largest + list(islice(singles, _MOST_DESTINATIONS - len(largest)))

    def by_destination(self) -> Counter[Tuple3]:
        """Return how many sockets there are to each (source, destination, port)."""
        return Counter({self._tuple3(key): count for key, count in self._counted[0].items()})

    def busiest(self) -> tuple[Tuple3, int] | None:
        """Return the destination with the most sockets, and how many; None without any."""
        return (self._tuple3(self._largest[0][0]), self._largest[0][1]) if self._largest else None

    def fullest_by_source(self) -> dict[int, int]:
        """Return the most sockets to one destination from each source address."""
        fullest: dict[int, int] = {}
        for key, count in reversed(self._largest):
            fullest[self._sources[key >> 16 & 0xFFFF]] = count
        return fullest

    def remote_ports(self) -> set[int]:
        """Return the distinct remote ports."""
        return set(compress(self._table.dport, self._mask))

    def _tuple3(self, key: int) -> Tuple3:
        source = self._sources[key >> 16 & 0xFFFF]
        address = key >> 32 | (1 << 32 if is_ipv6(source) else 0)
        return source, address, key & 0xFFFF

    def endpoints(self) -> set[Endpoint]:
        """Return the distinct (source address number, local port)."""
        if len(self._sources) == 1:
            return {(self._sources[0], port) for port in set(self._sport)}
        return set(zip(compress(self._table.src, self._mask), self._sport, strict=True))

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
            seconds, states = self._details[key]
            young = sum(count for second, count in seconds.items() if second < young_seconds)
            found.append(Destination(*self._tuple3(key), states, history_of(seconds), young))
        return sorted(found, key=lambda d: (-d.sockets, d.source, d.address, d.port))

    @cached_property
    def _details(self) -> dict[int, tuple[Counter[int], Counter[State]]]:
        """For each of the largest destinations: TIME_WAITs per second, sockets per state."""
        counts, left_out = self._counted
        keys = [key for key, _ in self._largest]
        number = {key: place for place, key in enumerate(keys)}
        other = len(keys)
        if len(counts) == other and not left_out:
            places = looked_up(number, self._keys)
        else:
            places = bytes(map(number.get, self._keys, repeat(other)))
        details = {key: (Counter[int](), Counter[State]()) for key in keys}
        for value, count in Counter(paired(places, self._moments)).items():
            place, moment = value >> 8, value & 0xFF
            if place == other:
                continue
            seconds, states = details[keys[place]]
            if moment < NOT_TIMED:
                seconds[moment] += count
                states[State.TIME_WAIT] += count
            else:
                states[State(moment - NOT_TIMED)] += count
        return details
