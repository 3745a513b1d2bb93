"""What keys choose: rows, their order, a filter, pages; rows never jump by themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.made import closed_first, listening, snapshot_of
from tests.render import made_frames
from tests.render.made_frames import frame_of, sight
from twdiag.engine.folding import ScreenMemory, fold
from twdiag.engine.frames import PARTS
from twdiag.render.live_keys import About, Choice, entry_at, press, selected, shown
from twdiag.render.live_rows import name_of, size_of

FRAME = made_frames.busy()


def after(keys: list[str] | str, choice: Choice = Choice()) -> Choice:  # noqa: B008
    """Return the choice after some keys."""
    for key in keys:
        choice, _ = press(choice, key, FRAME)
    return choice


def deed(key: str, choice: Choice = Choice()) -> str:  # noqa: B008
    """Return what is to be done after a key."""
    return press(choice, key, FRAME)[1]


def test_keys_ask_for_deeds() -> None:
    assert [deed(key) for key in ("q", "Q", "\x04", "r", "\r", "\n")] == [
        "quit", "quit", "quit", "reset", "explain", "explain",
    ]  # fmt: skip
    assert {deed(key) for key in "jks/ ?xü"} == {""}


def test_any_key_leaves_a_page_but_those_that_scroll() -> None:
    about = Choice(about=About("findings", FRAME.findings[0].row))
    assert after("jjk", about).scroll == 1
    assert after("kk", about).scroll == 0
    for key in ("q", "\r", "\x1b", " "):
        assert not after([key], about).on_page
        assert deed(key, about) == ""


def test_a_reset_keeps_nothing_but_the_pause() -> None:
    choice = after(["s", "/", "x", "\r", " ", "r"])
    assert choice == Choice(paused=True)


def test_a_filter_is_typed_and_dropped() -> None:
    assert after("/abc").filter == "abc"
    assert after("/abc\x7f").filter == "ab"
    assert after("/abc\x15").filter == ""
    assert after("/q").typing  # a letter, not a command
    assert after("/abc\r") == Choice(filter="abc")
    assert after("/abc\x1b") == Choice()
    assert after("/abc\r\x1b") == Choice()


def test_a_filter_finds_rows_in_any_case_and_by_process() -> None:
    found = shown(FRAME, Choice(filter="NGINX"))
    assert {entry.row.name for entry in found["closers"]} == {"0.0.0.0:443"}
    assert {entry.row.name for entry in found["processes"]} == {"nginx"}
    assert not found["budgets"]


def test_moving_stops_at_both_ends() -> None:
    order = [(part, e.key) for part, entries in shown(FRAME, Choice()).items() for e in entries]
    assert selected(FRAME, Choice()) == order[0]
    assert selected(FRAME, after("k")) == order[0]
    assert selected(FRAME, after("jj")) == order[2]
    assert selected(FRAME, after("G")) == order[-1]
    assert selected(FRAME, after("Gjjg")) == order[0]
    assert selected(FRAME, after(["\x1b[B", "\x1bOB", "\x1b[A"])) == order[1]


def test_a_selected_row_that_is_filtered_out_gives_way_to_the_first() -> None:
    choice = after(["G", *"/TIME_WAIT table", "\r"])
    place = selected(FRAME, choice)
    assert place is not None
    entry = entry_at(FRAME, place)
    assert entry is not None
    assert entry.row.name == "TIME_WAIT table"
    assert selected(FRAME, after("/nothing like it")) is None


def test_sorting_orders_the_rows_of_each_part() -> None:
    largest = shown(FRAME, after("s"))
    for part in PARTS:
        sizes = [size_of(part, entry.row) for entry in largest[part]]
        assert sizes == sorted(sizes, reverse=True)
    named = shown(FRAME, after("sss"))
    for part in PARTS:
        names = [name_of(part, entry.row).casefold() for entry in named[part]]
        assert names == sorted(names)
    assert shown(FRAME, after("ssss")) == shown(FRAME, Choice())


def test_sorted_rows_stand_still_until_they_are_sorted_again() -> None:
    one = snapshot_of(
        listening(443), listening(80), *closed_first(9, port=443), *closed_first(5, port=80)
    )
    two = snapshot_of(
        listening(443), listening(80), listening(22),
        *closed_first(9, port=443), *closed_first(50, port=80), *closed_first(99, port=22),
    )  # fmt: skip
    memory, before = fold(ScreenMemory(), sight(0, one))
    choice, _ = press(Choice(), "s", before)
    _, later = fold(memory, sight(1, two))
    assert [entry.row.port for entry in shown(before, choice)["closers"]] == [443, 80]
    assert [entry.row.port for entry in shown(later, choice)["closers"]] == [443, 80, 22]


@given(
    st.lists(
        st.sampled_from(["j", "k", "s", "/", "a", "\r", "\x1b", " ", "?", "r", "\x7f", "\x1b[6~"])
    )
)
def test_no_keys_break_anything(keys: list[str]) -> None:
    choice = after(keys)
    place = selected(FRAME, choice)
    assert place is None or entry_at(FRAME, place) is not None
    assert sum(map(len, shown(FRAME, choice).values())) <= sum(map(len, FRAME.parts.values()))


def test_a_frame_of_no_rows_has_no_selection() -> None:
    empty = frame_of([sight(0, snapshot_of(sysctls={}))])
    assert selected(empty, Choice()) is None
    assert press(Choice(), "j", empty)[0].selected is None
