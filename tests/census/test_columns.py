"""Each C-speed trick on columns gives what a naive look at every row gives."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twdiag.census import columns
from twdiag.census.columns import (
    both,
    chosen,
    counts_of,
    distinct_low_words,
    either,
    kept,
    looked_up,
    low_words,
    marked,
    ones,
    packed,
    paired,
    places_of,
    planes_of,
    positions,
    whole_seconds,
    without,
)

MASKS = st.lists(st.integers(0, 1)).map(bytes)
TWO_MASKS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60)
WORDS = st.integers(0, (1 << 32) - 1)
# Values that share some of their bytes, so that a comparison byte by byte can go wrong.
ALIKE = st.sampled_from([0, 1, 256, 257, 0x7F000001, 0x7F000101, 0x0100007F, 0xFFFFFFFF])
HIGHS = st.sampled_from([0, 1 << 32, 5 << 32])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a few rows take several pieces."""
    monkeypatch.setattr(columns, "_PIECE", 7)


@given(TWO_MASKS)
def test_masks_are_combined_row_by_row(rows: list[tuple[int, int]]) -> None:
    one, other = bytes(a for a, _ in rows), bytes(b for _, b in rows)
    assert both(one, other) == bytes(a & b for a, b in rows)
    assert either(one, other) == bytes(a | b for a, b in rows)
    assert without(one, other) == bytes(a & (1 - b) for a, b in rows)
    assert ones(one) == sum(one)
    assert list(positions(one)) == [row for row, bit in enumerate(one) if bit]


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 1))))
def test_bytes_are_kept_in_the_rows_of_a_mask(rows: list[tuple[int, int]]) -> None:
    column, mask = bytes(value for value, _ in rows), bytes(bit for _, bit in rows)
    assert kept(column, mask) == bytes(value if bit else 0 for value, bit in rows)


@given(MASKS, st.sampled_from(["B", "H", "I", "Q"]))
@example(b"", "Q")
@example(b"\1" * 100, "H")
@example(b"\1" + bytes(100), "I")
@example(b"\1" * 100 + b"\0", "Q")
@example(b"\0\1" * 50, "Q")
@example(b"\1\0\1\1" * 600 + b"\1" * 90_000, "B")
def test_the_rows_of_a_mask_are_chosen(mask: bytes, typecode: str) -> None:
    column = array(typecode, (row % 251 for row in range(len(mask))))
    assert chosen(column, mask) == array(
        typecode, [value for value, bit in zip(column, mask, strict=True) if bit]
    )


def test_every_number_of_milliseconds_is_rounded_up_to_seconds() -> None:
    every = array("I", range(1 << 16))
    assert whole_seconds(every) == bytes(-(-n // 1000) for n in every)


@given(st.lists(WORDS))
def test_only_the_low_half_of_the_milliseconds_counts(values: list[int]) -> None:
    assert whole_seconds(array("I", values)) == bytes(-(-(n & 0xFFFF) // 1000) for n in values)


def table_of(changes: dict[int, int]) -> bytes:
    """Return a table of ports with these entries; runs of 3,000 ports are alike otherwise."""
    table = bytearray(port // 3000 % 200 for port in range(1 << 16))
    for port, entry in changes.items():
        table[port] = entry
    return bytes(table)


PORTS = st.integers(0, 0xFFFF)
ODD_PORTS = st.sampled_from([0, 22, 80, 255, 256, 8080, 32767, 32768, 60999, 61000, 65535])


@given(
    st.dictionaries(ODD_PORTS | PORTS, st.integers(0, 255), max_size=40),
    st.lists(ODD_PORTS | PORTS, max_size=40),
    st.sampled_from([0, 5, 300]),
)
def test_ports_are_looked_up_by_page_as_one_by_one(
    changes: dict[int, int], ports: list[int], few: int
) -> None:
    table = table_of(changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_FEW_PAGES", few)
        assert looked_up(table, array("H", ports)) == bytes(table[port] for port in ports)


@given(st.lists(st.builds(int.__or__, HIGHS, ALIKE | WORDS), max_size=40))
def test_low_words_of_a_64_bit_column(values: list[int]) -> None:
    column = array("Q", values)
    words = [value & 0xFFFFFFFF for value in values]
    assert list(low_words(column)) == words
    assert distinct_low_words(column) == set(words)


@given(
    st.lists(st.tuples(ALIKE, HIGHS, st.integers(0, 1)), max_size=40),
    st.lists(ALIKE, unique=True, max_size=4),
)
def test_values_are_counted_by_their_bytes(
    rows: list[tuple[int, int, int]], wanted: list[int]
) -> None:
    column = array("Q", (high | word for word, high, _ in rows))
    mask = bytes(bit for _, _, bit in rows)
    naive = Counter(word for word, _, bit in rows if bit)
    assert counts_of(wanted, planes_of(column, 4), mask) == [naive[word] for word in wanted]


@given(
    st.lists(st.tuples(ALIKE, HIGHS), max_size=40),
    st.lists(ALIKE, unique=True, min_size=1, max_size=8),
    st.sampled_from([0, 8]),
)
def test_each_row_gets_the_place_of_its_value(
    rows: list[tuple[int, int]], values: list[int], few: int
) -> None:
    column = array("Q", (high | word for word, high in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "FEW_VALUES", few)
        places = places_of(values, column)
    assert list(places) == [values.index(word) if word in values else 0 for word, _ in rows]


@given(st.lists(ALIKE | WORDS, min_size=1), st.lists(ALIKE, unique=True, max_size=9))
def test_rows_are_marked_with_the_place_of_their_value(rows: list[int], wanted: list[int]) -> None:
    marks = marked(wanted, planes_of(array("I", rows)), 100)
    assert list(marks) == [100 + wanted.index(row) if row in wanted else 0 for row in rows]


@given(st.lists(st.tuples(WORDS, PORTS, PORTS), min_size=1))
def test_keys_are_packed_and_paired(rows: list[tuple[int, int, int]]) -> None:
    word = array("I", (w for w, _, _ in rows))
    high, low = array("H", (h for _, h, _ in rows)), array("H", (n for _, _, n in rows))
    assert list(packed(word, high, low)) == [w << 32 | h << 16 | n for w, h, n in rows]
    assert list(packed(None, high, low)) == [h << 16 | n for _, h, n in rows]
    assert list(packed(word, None, None)) == [w << 32 for w, _, _ in rows]
    left, right = bytes(h & 0xFF for h in high), bytes(n & 0xFF for n in low)
    assert list(paired(left, right)) == [h << 8 | n for h, n in zip(left, right, strict=True)]
