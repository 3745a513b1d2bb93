"""Cells: how many sockets each group has at each moment, in memory that does not grow with them.

A cell's key is a number of 64 bits: the moment in the lowest byte, above it a tag (8 bits), a port
(16) and an address or what stands for it (32).  What is above the moment is the group.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter, defaultdict
from itertools import compress, islice
from struct import iter_unpack
from typing import TYPE_CHECKING, Final

from twdiag.census.masks import inverted
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GROUP_BITS: Final = 8
"""A key without its lowest bits, the moment, is its group: `key >> GROUP_BITS`."""

group_of: Final = GROUP_BITS.__rrshift__
"""Return the group of a key, in one call of C."""

_MOST_CELLS: Final = 65_536
_MANY_ROWS: Final = 16_384
_SAMPLE: Final = 512
_JUDGED: Final = 4
"""One batch of so many is looked at whether its rows are loose; a dump is in no order."""
_BUCKETS: Final = 65_521  # a prime below 2**16, so that every part of a group counts
_bucket_of: Final = _BUCKETS.__rmod__
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


def keys_of(moments: bytes, tags: bytes, ports: array[int], addresses: array[int]) -> array[int]:
    """Return the key of each row."""
    low = bytearray(2 * len(moments))
    low[_LOW::2], low[_HIGH::2] = moments, tags
    halves = array("H", bytes(4 * len(moments)))
    halves[_LOW::2], halves[_HIGH::2] = array("H", bytes(low)), ports
    words = array("I", bytes(8 * len(moments)))
    words[_LOW::2], words[_HIGH::2] = array("I", halves.tobytes()), addresses
    return array("Q", words.tobytes())


class Key(NamedTuple):
    """The parts of a group."""

    tag: int
    port: int
    address: int

    @classmethod
    def of(cls, group: int) -> Key:
        """Return the parts of a group."""
        return cls(group & 0xFF, group >> 8 & 0xFFFF, group >> 24)


class Groups(NamedTuple):
    """The settled cells: {moment: sockets} of each group told apart, and of all the others.

    `names` has the names of the groups, where they were given.
    """

    moments: dict[int, Counter[int]]
    left_out: Counter[int]
    names: dict[int, bytes]


class Cells:
    """Counts cells.

    Where nearly every row is a cell of its own, counting them one by one would take 100 bytes a
    row.  Such rows are loose: their keys are kept, 8 bytes each, and only the groups that turn out
    to have many of them are told apart at the end.

    Where a group's number is a hash, each row comes with the name of its group, of `name_bytes`.
    """

    def __init__(self, name_bytes: int = 0) -> None:
        self._counts: Counter[int] = Counter()
        self._loose = array("Q")
        self._name_bytes = name_bytes
        self._names: dict[int, bytes] = {}
        self._loose_names = bytearray()
        self._batches = 0
        self._differ = False

    def add(self, keys: array[int], mask: bytes, names: list[bytes] | None = None) -> None:
        """Count the rows of a mask."""
        if self._batches % _JUDGED == 0:
            self._differ = _mostly_differ(compress(keys, mask))
        self._batches += 1
        if self._differ:
            self._loose.extend(compress(keys, mask))
            self._loose_names += b"".join(compress(names or (), mask))
            return
        self._counts.update(compress(keys, mask) if 0 in mask else keys)
        if names:
            groups = map(group_of, compress(keys, mask))
            self._names.update(zip(groups, compress(names, mask), strict=True))
        few = 1
        while len(self._counts) > _MOST_CELLS:
            self._loosen(few)
            few *= 2

    def _loosen(self, few: int) -> None:
        """Make the cells with so few rows loose."""
        small = {key: count for key, count in self._counts.items() if count <= few}
        for key, count in small.items():
            self._loose.extend([key] * count)
            if self._name_bytes:
                self._loose_names += self._names[group_of(key)] * count
            del self._counts[key]
        if self._name_bytes:
            kept = set(map(group_of, self._counts))
            self._names = {group: self._names[group] for group in kept}

    def settle(self, least: int) -> Groups:
        """Return all groups; of very many, those with fewer than `least` sockets may be left out.

        A group with many sockets makes its bucket of groups large; the rows in small buckets need
        not be told apart.
        """
        chosen, left_out = self._chosen(least), Counter[int]()
        told_apart = array("Q", compress(self._loose, chosen)) if 0 in chosen else self._loose
        if 0 in chosen:
            left_out.update(compress(self._loose.tobytes()[7 * _LOW :: 8], inverted(chosen)))
        if self._name_bytes:
            names = (name for (name,) in iter_unpack(f"{self._name_bytes}s", self._loose_names))
            self._names.update(zip(map(group_of, told_apart), compress(names, chosen), strict=True))
        self._counts.update(told_apart)
        self._loose, self._loose_names = array("Q"), bytearray()
        return Groups(_by_group(self._counts), left_out, self._names)

    def _chosen(self, least: int) -> bytes:
        """Return the mask of the loose rows to be told apart."""
        rows = len(self._loose)
        sample = set(map(group_of, self._loose[:: rows // (16 * _SAMPLE) + 1]))
        if rows <= _MANY_ROWS or len(sample) < 4 * _SAMPLE:
            return b"\x01" * rows
        buckets = array("H", map(_bucket_of, map(group_of, self._loose)))
        weights = Counter(buckets)
        for key, count in self._counts.items():
            weights[_bucket_of(group_of(key))] += count
        heavy = {bucket for bucket, count in weights.items() if count >= least}
        return bytes(map(heavy.__contains__, buckets))


def _mostly_differ(keys: Iterable[int]) -> bool:
    """Return whether nearly each of the first keys is another one."""
    return 4 * len(set(islice(keys, _SAMPLE))) > 3 * _SAMPLE


def _by_group(counts: Counter[int]) -> dict[int, Counter[int]]:
    found: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for key, count in counts.items():
        found[key >> GROUP_BITS][key & 0xFF] = count
    return dict(found)


def total(groups: Iterable[Mapping[int, int]]) -> Counter[int]:
    """Return the sum of several groups."""
    found: Counter[int] = Counter()
    for moments in groups:
        found.update(moments)
    return found
