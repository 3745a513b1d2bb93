"""Text in cells: wide and combining characters too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twdiag.render import cells

TEXT = st.text(st.characters(categories=["L", "N", "P", "Zs", "Mn"]), max_size=30)


def test_wide_characters_take_two_cells_and_combining_ones_none() -> None:
    assert [cells.width_of(text) for text in ("abc", "語", "e\u0301", "한글")] == [3, 2, 1, 4]


@given(TEXT, st.integers(0, 40))
def test_a_text_is_cut_to_its_field(text: str, width: int) -> None:
    assert cells.width_of(cells.cut(text, width)) <= width
    assert cells.width_of(cells.left(text, width)) == width
    assert cells.width_of(cells.right(text, width)) == width
    if cells.width_of(text) <= width:
        assert cells.cut(text, width) == text


def test_a_cut_shows() -> None:
    assert cells.cut("abcdefgh", 6) == "abc..."
    assert cells.cut("abcdefgh", 2) == ".."
