"""Work on whole columns at C speed: masks (one byte a row), and keys packed out of several columns.

A host in trouble has 600,000 rows, and a tuple per row costs more than everything else: counting
tuples of three took 0.2 us a row, counting packed integers takes 0.06.  What works on bytes alone
(translate, slices, large integers) takes less than a nanosecond a row and step.
"""

from __future__ import annotations

import sys
from array import array
from itertools import compress, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_LITTLE: Final = sys.byteorder == "little"
_FEW: Final = 1_000
_PIECE: Final = 16_384
_ALL_BITS: Final = b"\x00\xff" + bytes(254)
_FEW_PAGES: Final = 10
FEW_VALUES: Final = 8
"""So many values are faster found by comparing bytes than by looking up each row."""


def _round_up_by_high_byte() -> tuple[bytes, bytes]:
    """Return what whole_seconds() adds and subtracts for each high byte of the milliseconds."""
    seconds, thresholds = bytearray(256), bytearray(256)
    for high in range(256):
        least = -(-(high << 8) // 1000)
        threshold = 1000 * least + 1 - (high << 8)
        crosses = threshold <= 0xFF
        seconds[high] = least + crosses
        thresholds[high] = threshold if crosses else 0
    return bytes(seconds), bytes(thresholds)


_SECONDS, _THRESHOLDS = _round_up_by_high_byte()


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


def kept(column: bytes, mask: bytes) -> bytes:
    """Return a column of bytes in the rows of a mask, 0 in the others."""
    return both(column, mask.translate(_ALL_BITS))


def ones(mask: bytes) -> int:
    """Return the number of rows in a mask; bytes.count() takes four times as long."""
    return int.from_bytes(mask, "little").bit_count()


def positions(mask: bytes | bytearray) -> Iterator[int]:
    """Yield the rows of a mask, ascending; nearly free where they are few."""
    at = mask.find(1)
    while at >= 0:
        yield at
        at = mask.find(1, at + 1)


def chosen(column: array[int], mask: bytes) -> array[int]:
    """Return the values of a column in the rows of a mask; cheap where few are kept or left out."""
    zeros = len(mask) - ones(mask)
    if not zeros:
        return column
    if 8 * (len(mask) - zeros) < len(mask):
        return array(column.typecode, map(column.__getitem__, positions(mask)))
    if zeros > _FEW:
        return array(column.typecode, compress(column, mask))
    kept = array(column.typecode)
    start = 0
    while (at := mask.find(0, start)) >= 0:
        kept.extend(column[start:at])
        start = at + 1
    kept.extend(column[start:])
    return kept


def looked_up(table: bytes, ports: array[int]) -> bytes:
    """Return one byte a row: the entry for the row's port in a table of 65,536 bytes.

    Where all 256 entries of a page are alike the high byte of a port tells enough.  In the few
    other pages the low byte is looked up, for all rows, and counts where the high byte is the
    page's: 2 ns a row and page, where looking up the whole port takes 30.
    """
    pages = [table[start : start + 256] for start in range(0, len(table), 256)]
    mixed = [number for number, page in enumerate(pages) if page != page[:1] * 256]
    if len(mixed) > _FEW_PAGES:
        return _looked_up_one_by_one(table, ports)
    plain = bytes(0 if number in mixed else page[0] for number, page in enumerate(pages))
    found = bytearray()
    for piece in _pieces(ports):
        raw = piece.tobytes()
        low, high = (raw[0::2], raw[1::2]) if _LITTLE else (raw[1::2], raw[0::2])
        entries = int.from_bytes(high.translate(plain), "little")
        for number in mixed:
            here = bytes(number) + b"\xff" + bytes(255 - number)
            rows = int.from_bytes(high.translate(here), "little")
            entries |= rows & int.from_bytes(low.translate(pages[number]), "little")
        found += entries.to_bytes(len(high), "little")
    return bytes(found)


def _looked_up_one_by_one(table: bytes, ports: array[int]) -> bytes:
    """Do the same by itemgetter() of many items: one C loop, half the time of map(getitem)."""
    found = bytearray()
    for piece in _pieces(ports):
        # One more item, dropped again: for a single item itemgetter() returns no tuple.
        found += bytes(itemgetter(*piece, piece[0])(table)[:-1])
    return bytes(found)


def whole_seconds(milliseconds: array[int]) -> bytes:
    """Return the low 16 bits of each entry of a 32-bit column in seconds, rounded up.

    The high byte tells the seconds but for those milliseconds where a second ends between two
    values of it; there the low byte decides.  All rows are compared by one subtraction of large
    integers with 16 bits for each row, whose upper half loses one where the low byte is too small:
    a third of the time of looking each row up.
    """
    found = bytearray()
    for piece in _pieces(milliseconds):
        raw = piece.tobytes()
        low, high = (raw[0::4], raw[1::4]) if _LITTLE else (raw[3::4], raw[2::4])
        minuend, subtrahend = bytearray(2 * len(low)), bytearray(2 * len(low))
        minuend[0::2], minuend[1::2] = low, high.translate(_SECONDS)
        subtrahend[0::2] = high.translate(_THRESHOLDS)
        number = int.from_bytes(minuend, "little") - int.from_bytes(subtrahend, "little")
        found += number.to_bytes(len(minuend), "little")[1::2]
    return bytes(found)


def low_words(column: array[int]) -> array[int]:
    """Return the low 32 bits of a 64-bit column."""
    words = array("I")
    for piece in _pieces(column):
        words.extend(array("I", piece.tobytes())[0 if _LITTLE else 1 :: 2])
    return words


def distinct_low_words(column: array[int]) -> set[int]:
    """Return the different low 32 bits of a 64-bit column; nearly free in runs that are alike."""
    found: set[int] = set()
    for piece in _pieces(column):
        raw = piece.tobytes()
        alike = raw == raw[:8] * len(piece)
        found.update(low_words(piece[:1] if alike else piece))
    return found


def _pieces(column: array[int]) -> Iterator[array[int]]:
    """Yield a column in pieces.

    What is made of a piece stays in the processor's cache, and needs no fresh memory: on a virtual
    machine the page faults of a few whole columns take longer than the work on them.
    """
    for start in range(0, len(column), _PIECE):
        yield column[start : start + _PIECE]


def planes_of(column: array[int], most: int = 8) -> list[bytes]:
    """Return the bytes of each entry of a column, at most so many, the lowest first.

    Comparing entries byte by byte makes no object of any of them: a nanosecond a row and byte.
    """
    raw, size = column.tobytes(), column.itemsize
    return [raw[n if _LITTLE else size - 1 - n :: size] for n in range(min(size, most))]


def plane_of(column: array[int], number: int) -> bytes:
    """Return one byte of each entry of a column; number 0 is the lowest."""
    size = column.itemsize
    return column.tobytes()[number if _LITTLE else size - 1 - number :: size]


def counts_of(values: Iterable[int], planes: Sequence[bytes], mask: bytes) -> list[int]:
    """Return how often each value occurs in the rows of a mask, given the planes of a column."""
    rows = int.from_bytes(mask, "little")
    return [(_rows_with(value, planes) & rows).bit_count() for value in values]


def marked(values: Sequence[int], planes: Sequence[bytes], first: int) -> bytes:
    """Return one byte a row: `first` + the place of its value among distinct ones, else 0."""
    number = 0
    for place, value in enumerate(values, start=first):
        number |= _rows_with(value, planes) * place
    return number.to_bytes(len(planes[0]), "little")


def _rows_with(value: int, planes: Sequence[bytes]) -> int:
    """Return a mask as a number: a byte for each row, 1 where all bytes are those of a value."""
    found = -1
    for plane, byte in zip(planes, value.to_bytes(len(planes), "little"), strict=True):
        same = bytearray(256)
        same[byte] = 1
        found &= int.from_bytes(plane.translate(same), "little")
    return found


def places_of(values: Sequence[int], column: array[int]) -> array[int]:
    """Return a 16-bit column: where the low 32 bits of each entry are among distinct values.

    Entries that are none of them get place 0; values beyond the first 65,535 share the last place.
    """
    if len(values) <= FEW_VALUES:
        return paired(bytes(len(column)), marked(values[1:], planes_of(column, 4), 1))
    place_of = {value: min(place, 0xFFFF) for place, value in enumerate(values)}
    return array("H", map(place_of.get, low_words(column), repeat(0)))


def packed(word: array[int] | None, high: array[int] | None, low: array[int] | None) -> array[int]:
    """Return 64-bit keys: `word` (32 bits) << 32 | `high` (16) << 16 | `low` (16); None is zero."""
    count = next(len(column) for column in (word, high, low) if column is not None)
    keys = array("Q", bytes(8)) * count
    with memoryview(keys) as view, view.cast("B") as raw:
        halves, words = raw.cast("H"), raw.cast("I")
        if word is not None:
            words[1 if _LITTLE else 0 :: 2] = memoryview(word)
        if high is not None:
            halves[1 if _LITTLE else 2 :: 4] = memoryview(high)
        if low is not None:
            halves[0 if _LITTLE else 3 :: 4] = memoryview(low)
        halves.release()
        words.release()
    return keys


def paired(high: bytes, low: bytes) -> array[int]:
    """Return 16-bit keys out of two byte columns: `high` << 8 | `low`."""
    raw = bytearray(2 * len(high))
    raw[1 if _LITTLE else 0 :: 2] = high
    raw[0 if _LITTLE else 1 :: 2] = low
    return array("H", raw)
