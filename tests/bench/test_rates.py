"""The measurement of closing rates: its schedule, its window and its table."""

from __future__ import annotations

import pytest

from .rates import LOADS, Load, Sample, moments, ratios, row, silent_after


def test_a_rising_load_has_as_many_closes_as_its_rate_adds_up_to() -> None:
    rising = next(load for load in LOADS if "rising" in load.name)
    due = list(moments(rising))
    assert len(due) == pytest.approx(20 * 20 + 5 * 20**2 / 2, rel=0.03)
    assert sum(1 for at in due if at >= 19) == pytest.approx(117, abs=4)


def test_what_has_just_begun_or_ended_is_not_asked_for_its_rate() -> None:
    load = Load("a load", lambda _: 10, 10, 5)
    samples = [Sample(float(at), 5 if at < 4 else 20 if at < 10 else 0, 10) for at in range(15)]
    assert ratios(load, samples) == [2.0] * 6
    assert silent_after(load, samples) == 1.0
    assert row(load, samples).split()[-8:] == [
        "2.00",
        "0/s",
        "told",
        "1.0",
        "s",
        "after",
        "its",
        "end",
    ]


def test_a_rate_that_is_told_on_and_on_has_no_end() -> None:
    assert silent_after(Load("a load", lambda _: 10, 3, 3), [Sample(5.0, 9, 0)]) is None
