"""Masks are combined row by row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twdiag.census.masks import both, inverted, table_of

TWO_MASKS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60)


@given(TWO_MASKS)
def test_masks_are_combined_row_by_row(rows: list[tuple[int, int]]) -> None:
    one, other = bytes(a for a, _ in rows), bytes(b for _, b in rows)
    assert both(one, other) == bytes(a & b for a, b in rows)
    assert inverted(one) == bytes(1 - a for a, _ in rows)


@given(st.sets(st.integers(0, 255)), st.binary())
def test_a_table_marks_its_values(values: set[int], column: bytes) -> None:
    assert column.translate(table_of(*values)) == bytes(value in values for value in column)
