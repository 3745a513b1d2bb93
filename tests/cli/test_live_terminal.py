"""What is written to a terminal: only what changes, so that any terminal shows the right lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.cli.pseudo import Emulator
from twdiag.cli.live_terminal import changes, painted

LINES = st.lists(st.text("abc xyz", max_size=12), max_size=6)


@given(st.lists(LINES, min_size=1, max_size=6))
def test_a_terminal_shows_the_last_lines(screens: list[list[str]]) -> None:
    terminal, before = Emulator(12, 6), list[str]()
    for lines in screens:
        full = [len(line) >= 12 for line in lines]
        terminal.feed(changes(before, lines, full).encode())
        before = lines
        assert terminal.rows[: len(lines)] == [line.rstrip() for line in lines]
        assert not any(terminal.rows[len(lines) :])


@given(LINES)
def test_what_is_shown_already_is_not_written(lines: list[str]) -> None:
    assert changes(lines, lines, [False] * len(lines)) == ""


def test_only_the_changed_line_is_written() -> None:
    written = changes(["a", "b", "c"], ["a", "x", "c"], [False] * 3)
    assert written == "\x1b[2;1Hx\x1b[K"


def test_the_last_cell_of_a_full_line_is_not_cleared() -> None:
    assert changes([], ["full"], [True]) == "\x1b[1;1Hfull"


def test_styles_end_where_their_line_does() -> None:
    assert painted(("text", "bold yellow reverse")) == "\x1b[1;33;7mtext\x1b[0m"
    assert painted(("text", "")) == "text"
    assert painted(("", "dim")) == ""
