"""When a run of `check --notify-on change` speaks."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.check.verdict import Status
from twdiag.errors import UsageError
from twdiag.history.notify import Told, has_to_speak, parse_duration

STATUSES = ("OK", "UNKNOWN", "WARNING", "CRITICAL")


def spoken(*statuses: str, step: float = 60.0, again: float | None = None) -> list[str]:
    """Return what runs with these statuses tell, "" for nothing."""
    told: Told | None = None
    last: str | None = None
    said = []
    for run, status in enumerate(statuses):
        now = 1e9 + run * step
        speaks = has_to_speak(told, last, status, now, again)
        if speaks or told is None:
            told = Told(status, now)
        last = status
        said.append(status if speaks else "")
    return said


def test_worse_and_well_are_told_at_once() -> None:
    runs = ("OK", "WARNING", "CRITICAL", "OK", "UNKNOWN", "OK")
    assert spoken(*runs) == ["", "WARNING", "CRITICAL", "OK", "UNKNOWN", "OK"]


def test_better_has_to_hold_for_a_second_run() -> None:
    assert spoken("CRITICAL", "WARNING", "WARNING", "WARNING") == ["CRITICAL", "", "WARNING", ""]
    assert spoken("CRITICAL", "UNKNOWN", "WARNING") == ["CRITICAL", "", "WARNING"]


def test_back_and_forth_is_told_once() -> None:
    assert spoken(*("WARNING", "CRITICAL") * 5)[2:] == [""] * 8


@given(
    statuses=st.lists(st.sampled_from(STATUSES), min_size=1, max_size=30),
    again=st.none() | st.sampled_from([60.0, 120.0, 3600.0]),
)
def test_what_was_told_last_is_never_milder_for_long(
    statuses: list[str], again: float | None
) -> None:
    weight = {status: Status[status].weight for status in STATUSES}
    told = "OK"
    said = spoken(*statuses, again=again)
    for run, status in enumerate(statuses):
        told = said[run] or told
        assert weight[told] >= weight[status]
        if run and statuses[run - 1] == status:
            assert told == status
        assert again is not None or said[run] == "" or run == 0 or said[run] != last_of(said[:run])


def last_of(said: list[str]) -> str:
    return next((word for word in reversed(said) if word), "OK")


def test_a_lasting_problem_is_told_again() -> None:
    assert spoken(*["WARNING"] * 6, again=180) == ["WARNING", "", "", "WARNING", "", ""]
    assert spoken(*["OK"] * 6, again=60) == [""] * 6
    assert spoken("CRITICAL", *("WARNING", "CRITICAL") * 2, again=240)[4] == "CRITICAL"


def test_a_clock_that_was_set_back_tells_once_more() -> None:
    told = Told("WARNING", 1e9)
    assert has_to_speak(told, "WARNING", "WARNING", 1e9 - 5, 3600)
    assert not has_to_speak(told, "WARNING", "WARNING", 1e9 - 5, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("4h", 14_400), ("30m", 1800), ("90s", 90), ("90", 90), (" 1d ", 86_400)]
)
def test_a_time(text: str, seconds: float) -> None:
    assert parse_duration(text, "--again-after") == seconds


@given(text=st.text(max_size=8))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_duration(text, "x") > 0


@pytest.mark.parametrize("text", ["", "0", "4x", "h", "-1h", "1.5h", "1 h", "4hh"])
def test_what_is_not_a_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"x: .* is not a time"):
        parse_duration(text, "x")
