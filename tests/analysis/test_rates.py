"""The rows tell how fast connections close, unless the kernel's counters know of more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made import closed_first, found, snapshot_of, time_wait
from twdiag.analysis.rates import MADE, REFUSED, closing, rate_of
from twdiag.model.census import History
from twdiag.model.findings import Severity
from twdiag.model.snapshot import Pace


def steady(per_second: int) -> History:
    """Return the closes of a minute at one rate."""
    return History((per_second,) * 60, 60 * per_second)


def test_without_counters_the_rows_tell() -> None:
    for pace in (None, Pace(1.0, {})):
        assert closing(steady(10), pace).now == pytest.approx(10)
        assert not closing(steady(10), pace).hidden


def test_where_rows_are_replaced_the_counters_tell() -> None:
    """One client on 300 ports at 100 closes a second: each port's TIME_WAIT is made anew."""
    seen = closing(steady(5), Pace(1.0, {MADE: 100}))
    assert (seen.hidden, seen.now) == (True, 100.0)
    assert rate_of(steady(5), steady(5), seen) == (100.0, False)


def test_a_part_of_the_rows_is_a_lower_bound() -> None:
    seen = closing(steady(10), Pace(2.0, {MADE: 400}))
    assert seen.now == 200.0
    value, at_least = rate_of(steady(5), steady(10), seen)
    assert (value, at_least) == (pytest.approx(5), True)


def test_closes_without_a_place_in_the_table_count_too() -> None:
    seen = closing(steady(2), Pace(1.0, {MADE: 2, REFUSED: 48}))
    assert (seen.hidden, seen.now) == (True, 50.0)


@given(st.integers(0, 2000), st.floats(0.1, 10), st.floats(0, 1.15))
def test_counters_that_agree_change_nothing(rate: int, seconds: float, share: float) -> None:
    seen = closing(steady(rate), Pace(seconds, {MADE: int(rate * seconds * share)}))
    assert not seen.hidden
    assert seen.now == pytest.approx(rate)


def test_a_burst_that_has_ended_is_no_rate() -> None:
    history = History((0,) * 48 + (60,) * 7 + (0,) * 5, 420)
    assert closing(history, Pace(1.0, {MADE: 0})).now == 0


def test_a_hidden_rate_is_what_a_finding_tells() -> None:
    rows = closed_first(300, age=1)
    quiet = snapshot_of(*rows, pace=Pace(1.0, {MADE: 5}))
    busy = snapshot_of(*time_wait(28_000, age=1), pace=Pace(1.0, {MADE: 900}))
    assert Severity.CRITICAL not in found(quiet).values()
    assert found(busy)["ports-running-out"] is Severity.CRITICAL
