"""The rows of connections that this host made, each with the key of its destination."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import compress, repeat
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.columns import (
    FEW_VALUES,
    chosen,
    kept,
    low_words,
    marked,
    ones,
    packed,
    paired,
    places_of,
    planes_of,
    without,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from twdiag.census.table import SocketTable

FIRST_PLACE: Final = 128
"""The least number of a frequent destination."""

_MOST_FREQUENT: Final = 256 - FIRST_PLACE
_FREQUENT: Final = 3
_SAMPLE: Final = 8_192
_OTHER: Final = 255
_IS_PLACE: Final = bytes(number >= FIRST_PLACE for number in range(256))


class Rows(NamedTuple):
    """Rows by the key of their destination, each with its moment."""

    keys: array[int]
    moments: bytes

    def moments_of(self, keys: Sequence[int]) -> dict[int, Counter[int]]:
        """Return how many rows of each of these keys, 255 at most, began at each moment."""
        number = {key: place for place, key in enumerate(keys)}
        places = bytes(map(number.get, self.keys, repeat(_OTHER)))
        found: dict[int, Counter[int]] = {key: Counter() for key in keys}
        for value, count in Counter(paired(places, self.moments)).items():
            if value >> 8 != _OTHER:
                found[keys[value >> 8]][value & 0xFF] = count
        return found


class ClientRows:
    """The rows of a mask in a table; `sources` are the distinct local addresses of connections.

    The key of a row is (destination's low 32 bits, place of the source, destination port) in 64
    bits; the source tells the family.
    """

    def __init__(self, table: SocketTable, mask: bytes, sources: Sequence[int]) -> None:
        self.table = table
        self.mask = mask
        self.count = ones(mask)
        self.sources = sources or [0]

    @property
    def few(self) -> bool:
        """Whether picking the rows is cheaper than working on the whole table."""
        return 8 * self.count < len(self.mask)

    def source_places(self, src: array[int]) -> array[int] | None:
        """Return the place of each local address among the sources, None where there is but one."""
        if len(self.sources) == 1:
            return None
        return places_of([source & 0xFFFFFFFF for source in self.sources], src)

    def _keys_of(self, rows: slice) -> array[int]:
        """Return the keys of a part of the table, meaningless for the rows of servers."""
        table = self.table
        places = self.source_places(table.src[rows])
        return packed(low_words(table.dst[rows]), places, table.dport[rows])

    @cached_property
    def _keys(self) -> array[int]:
        return self._keys_of(slice(None))

    @cached_property
    def frequent(self) -> list[int]:
        """The keys that a sample of the rows shows again and again, the most frequent first."""
        if self.few:
            return []
        # The kernel's order has long runs of one destination, hence the step; an odd one, lest it
        # meet only one half of rows that take turns.
        rows = slice(None, None, self.count // _SAMPLE | 1)
        sample = Counter(compress(self._keys_of(rows), self.mask[rows]))
        least = _FREQUENT if self.count > _SAMPLE else 1
        return [key for key, count in sample.most_common(_MOST_FREQUENT) if count >= least]

    @cached_property
    def places(self) -> bytes:
        """For each row of the table FIRST_PLACE + the place of its frequent destination, else 0."""
        if not self.frequent:
            return bytes(len(self.mask))
        if len(self.frequent) <= FEW_VALUES:
            return kept(marked(self.frequent, self._key_planes(), FIRST_PLACE), self.mask)
        number = {key: place for place, key in enumerate(self.frequent, start=FIRST_PLACE)}
        return kept(bytes(map(number.get, self._keys, repeat(0))), self.mask)

    def _key_planes(self) -> list[bytes]:
        """Return the bytes of the keys, which need not be made for that."""
        table, places = self.table, self.source_places(self.table.src)
        source = [bytes(len(table))] * 2 if places is None else planes_of(places)
        return [*planes_of(table.dport), *source, *planes_of(table.dst, 4)]

    def others(self, moments: bytes) -> Rows:
        """Return the rows of all other destinations; `moments` are those of the whole table."""
        if not self.few:
            mask = without(self.mask, self.places.translate(_IS_PLACE))
            return Rows(chosen(self._keys, mask), bytes(compress(moments, mask)))
        table, mask = self.table, self.mask
        src, dst, dport = (chosen(column, mask) for column in (table.src, table.dst, table.dport))
        keys = packed(low_words(dst), self.source_places(src), dport)
        return Rows(keys, bytes(compress(moments, mask)))
