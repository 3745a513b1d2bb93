"""A block of equally long rows as the kernel wrote them (struct inet_diag_msg), by columns."""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import compress
from operator import itemgetter
from typing import Final, NamedTuple

from twdiag.census.columns import both, either, marked, planes_of

_LITTLE: Final = sys.byteorder == "little"
_MAPPED_WORD: Final = struct.pack("!I", 0xFFFF)
_MAPPED_VALUE: Final = struct.unpack("=I", _MAPPED_WORD)[0] << 64
_IS_ZERO: Final = b"\x01" + bytes(255)
_IS_FE: Final = bytes(number == 0xFE for number in range(256))
_IS_LINK_LOCAL: Final = bytes(number & 0xC0 == 0x80 for number in range(256))
_FIRST_ITEM: Final = itemgetter(0)
_SHORT_RUN: Final = 8


class RowBlock(NamedTuple):
    """`size` rows of `step` words of 32 bits each, from the word `first` of a buffer on.

    Nothing is copied but the columns that are asked for: an array's slices with a step take 2.2 ns
    a row, those of a memoryview 8.
    """

    words: array[int]
    first: int
    size: int
    step: int

    @classmethod
    def of(cls, rows: bytes, step: int) -> RowBlock:
        """Return a block of rows that are bytes."""
        words = array("I", rows)
        return cls(words, 0, len(words) // step, step)

    def column(self, word: int) -> array[int]:
        """Return one word of each row, as it stands there."""
        return self.words[self.first + word : self.first + self.size * self.step : self.step]

    def host_order(self, word: int) -> array[int]:
        """Return one word of each row that stands there in network order."""
        return _host_order(self.column(word))

    def ports(self, word: int) -> tuple[array[int], array[int]]:
        """Return the two ports that stand in one word, in network order."""
        halves = array("H", self.column(word).tobytes())
        return _host_order(halves[0::2]), _host_order(halves[1::2])

    def joined(self, word: int) -> array[int]:
        """Return the 64-bit number whose lower and upper half stand in two words."""
        raw = bytearray(8 * self.size)
        with memoryview(raw) as view, view.cast("I") as halves:
            halves[0 if _LITTLE else 1 :: 2] = memoryview(self.column(word))
            halves[1 if _LITTLE else 0 :: 2] = memoryview(self.column(word + 1))
        return array("Q", raw)

    def bytes_of(self, word: int) -> tuple[bytes, bytes, bytes, bytes]:
        """Return the four bytes of a word, in the order in which they stand there."""
        raw = self.column(word).tobytes()
        return raw[0::4], raw[1::4], raw[2::4], raw[3::4]

    def has_alike(self, *words: int) -> bool:
        """Return whether all rows have the same in each of these words."""
        return all(
            column.tobytes() == column[:1].tobytes() * self.size
            for column in map(self.column, words)
        )

    def all_mapped(self, word: int) -> bool:
        """Return whether all the addresses of four words are IPv4 ones, v4-mapped."""
        zeros = bytes(4 * self.size)
        return (
            self.column(word + 2).tobytes() == _MAPPED_WORD * self.size
            and self.column(word).tobytes() == zeros
            and self.column(word + 1).tobytes() == zeros
        )

    def mapped(self, word: int) -> bytes:
        """Return the mask of rows whose address of four words is an IPv4 one, v4-mapped."""
        planes = [plane for part in range(3) for plane in planes_of(self.column(word + part))]
        return marked([_MAPPED_VALUE], planes, 1)

    def special(self, word: int) -> bytes:
        """Return the mask of rows whose address is v4-mapped, link-local or begins with 0."""
        first, second, third, fourth = self.bytes_of(word)
        some = either(either(first, second), either(third, fourth))
        link_local = both(first.translate(_IS_FE), second.translate(_IS_LINK_LOCAL))
        return either(some.translate(_IS_ZERO), link_local)

    def addresses(self, word: int) -> list[bytes]:
        """Return the 16-byte addresses that begin at a word of each row."""
        raw = bytearray(16 * self.size)
        with memoryview(raw) as view, view.cast("I") as parts:
            for part in range(4):
                parts[part::4] = memoryview(self.column(word + part))
        return list(map(_FIRST_ITEM, struct.iter_unpack("16s", raw)))

    def chosen(self, mask: bytes) -> RowBlock:
        """Return a block of the rows of a mask."""
        end = self.first + self.size * self.step
        rows = struct.iter_unpack(f"{4 * self.step}s", self.words[self.first : end])
        return RowBlock.of(b"".join(compress(map(_FIRST_ITEM, rows), mask)), self.step)


def run_length(words: array[int], first: int, step: int, most: int) -> int:
    """Return how many rows of `step` words follow each other from the word `first` on.

    Rows of a run have the same length, type, flags and dump in the first 12 bytes of their netlink
    header.  A dump mixes row lengths (TIME_WAIT 96 bytes, full sockets 124 and more), so a datagram
    is a few runs.  Short runs are walked; the heads of a long one are compared as one strided copy,
    and a mismatch is found by bisection.
    """
    head = words[first : first + 3]
    for known in range(1, min(most, _SHORT_RUN)):
        at = first + known * step
        if words[at : at + 3] != head:
            return known
    if most <= _SHORT_RUN:
        return most
    block = RowBlock(words, first, most, step)
    heads = [block.column(word).tobytes() for word in range(3)]

    def alike(rows: int) -> bool:
        return all(column.startswith(column[:4] * rows) for column in heads)

    if alike(most):
        return most
    known, unknown = 1, most
    while unknown - known > 1:
        middle = (known + unknown) // 2
        if alike(middle):
            known = middle
        else:
            unknown = middle
    return known


def _host_order(column: array[int]) -> array[int]:
    if _LITTLE:
        column.byteswap()
    return column
