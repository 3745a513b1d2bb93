"""An idle timeout is measured where there is one, and nowhere else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.idle_timeouts import idle_timeout
from twdiag.model.idling import IdleEnd

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAST = 3


def ends(pairs: Iterable[tuple[float, float]]) -> list[IdleEnd]:
    """Return ends of (moment, idle time)."""
    return [IdleEnd(at, idle, "10.0.0.9") for at, idle in pairs]


@pytest.mark.parametrize("timeout", [0.6, 2.0, 5.0, 75.0])
def test_connections_that_are_closed_after_the_same_time_show_it(timeout: float) -> None:
    chance = random.Random(1)
    seen = ends((10.0 * n, timeout + chance.uniform(0, 0.05)) for n in range(7))
    found = idle_timeout(seen, LEAST)
    assert found is not None
    assert timeout <= found.low <= found.high <= timeout + 0.05
    assert len(found.ends) == 7


def test_a_server_that_looks_once_a_second_only_is_measured_too() -> None:
    found = idle_timeout(ends((10.0 * n, 2.0 + n / 10) for n in range(10)), LEAST)
    assert found is not None
    assert (found.low, found.high) == (2.0, 2.9)


def test_a_few_closes_are_no_timeout() -> None:
    assert idle_timeout([], LEAST) is None
    assert idle_timeout(ends([(0, 2.0), (30, 2.0)]), LEAST) is None


def test_a_server_that_stops_closes_whatever_is_idle_in_one_moment() -> None:
    assert idle_timeout(ends((100.0, 1.0 + n) for n in range(50)), LEAST) is None
    # Even where its clients had fallen silent at the same moment, too.
    alike = ends((100.0 + n / 1000, 30.0 + n / 1000) for n in range(50))
    assert idle_timeout(alike, LEAST) is None


def test_connections_that_are_closed_for_their_age_have_idled_for_any_time() -> None:
    chance = random.Random(2)
    assert idle_timeout(ends((n, chance.uniform(0.2, 60)) for n in range(100)), LEAST) is None


def test_some_closes_for_other_reasons_do_not_hide_it() -> None:
    timed = [(10.0 * n, 5.0) for n in range(9)]
    found = idle_timeout(ends([*timed, (3.0, 0.7), (4.0, 31.0)]), LEAST)
    assert found is not None
    assert (found.low, len(found.ends)) == (5.0, 9)


ANY_ENDS = st.lists(
    st.builds(
        IdleEnd,
        st.floats(0, 1e10),
        st.floats(0.2, 1e5),
        st.just("10.0.0.9"),
        st.none() | st.floats(0, 1e5),
    ),
    max_size=40,
)


@given(ANY_ENDS, st.integers(1, 10), st.randoms())
def test_what_is_measured_lies_among_the_ends_in_whatever_order(
    seen: list[IdleEnd], least: int, chance: random.Random
) -> None:
    found = idle_timeout(seen, least)
    if found is not None:
        assert set(found.ends) <= set(seen)
        assert len(found.ends) >= max(least, 0.8 * len(seen))
        assert found.low == min(end.idle for end in found.ends)
        assert found.high == max(end.idle for end in found.ends)
    mixed = list(seen)
    chance.shuffle(mixed)
    again = idle_timeout(mixed, least)
    assert (again is None) == (found is None)
    assert again is None or found is None or (again.low, again.high) == (found.low, found.high)
