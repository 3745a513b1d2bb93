"""Work on whole columns at C speed: masks (one byte a row), and keys packed out of several columns.

A host in trouble has 600,000 rows, and a tuple per row costs more than everything else: counting
tuples of three took 0.2 us a row, counting packed integers takes 0.06.
"""

from __future__ import annotations

import sys
from array import array
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LITTLE: Final = sys.byteorder == "little"
_FEW: Final = 1_000
_PIECE: Final = 16_384


def both(one: bytes, other: bytes) -> bytes:
    """Return the bits that are in both of two columns of bytes, by one large integer."""
    number = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def either(one: bytes, other: bytes) -> bytes:
    """Return the bits that are in either of two columns of bytes."""
    number = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def without(one: bytes, other: bytes) -> bytes:
    """Return the mask of rows that are in the first mask and not in the second."""
    number = int.from_bytes(one, "little")
    return (number & ~int.from_bytes(other, "little")).to_bytes(len(one), "little")


def positions(mask: bytes) -> Iterator[int]:
    """Yield the rows of a mask, ascending; nearly free where they are few."""
    at = mask.find(1)
    while at >= 0:
        yield at
        at = mask.find(1, at + 1)


def chosen(column: array[int], mask: bytes) -> array[int]:
    """Return the values of a column in the rows of a mask; nearly free where few are left out."""
    zeros = mask.count(0)
    if not zeros:
        return column
    if zeros > _FEW:
        return array(column.typecode, compress(column, mask))
    kept = array(column.typecode)
    start = 0
    while (at := mask.find(0, start)) >= 0:
        kept.extend(column[start:at])
        start = at + 1
    kept.extend(column[start:])
    return kept


def looked_up(table: bytes | dict[int, int], column: array[int]) -> bytes:
    """Return one byte a row: the table's entry for the column's value.

    itemgetter() of many items is one C loop, a third of the time of map(table.__getitem__); pieces
    of the column keep its temporaries small.
    """
    found = bytearray()
    for start in range(0, len(column), _PIECE):
        piece = column[start : start + _PIECE]
        # One more item, dropped again: for a single item itemgetter() returns no tuple.
        found += bytes(itemgetter(*piece, piece[0])(table)[:-1])
    return bytes(found)


def low_halves(column: array[int]) -> array[int]:
    """Return the low 16 bits of a 32-bit column."""
    with memoryview(column).cast("B").cast("H") as halves:
        return array("H", halves[0 if _LITTLE else 1 :: 2].tobytes())


def low_words(column: array[int]) -> array[int]:
    """Return the low 32 bits of a 64-bit column."""
    with memoryview(column).cast("B").cast("I") as words:
        return array("I", words[0 if _LITTLE else 1 :: 2].tobytes())


def packed(word: array[int] | None, high: array[int] | None, low: array[int] | None) -> array[int]:
    """Return 64-bit keys: `word` (32 bits) << 32 | `high` (16) << 16 | `low` (16); None is zero."""
    count = next(len(column) for column in (word, high, low) if column is not None)
    raw = bytearray(8 * count)
    view = memoryview(raw)
    halves, words = view.cast("H"), view.cast("I")
    if word is not None:
        words[1 if _LITTLE else 0 :: 2] = memoryview(word)
    if high is not None:
        halves[1 if _LITTLE else 2 :: 4] = memoryview(high)
    if low is not None:
        halves[0 if _LITTLE else 3 :: 4] = memoryview(low)
    return array("Q", bytes(raw))


def paired(high: bytes, low: bytes) -> array[int]:
    """Return 16-bit keys out of two byte columns: `high` << 8 | `low`."""
    raw = bytearray(2 * len(high))
    raw[1 if _LITTLE else 0 :: 2] = high
    raw[0 if _LITTLE else 1 :: 2] = low
    return array("H", bytes(raw))
