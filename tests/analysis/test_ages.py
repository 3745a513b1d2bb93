"""Ages tell of sockets that come and stay, and of nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.ages import arrivals, pile

HOURS = 3600.0


def came_and_stayed(n: int, first: float) -> list[float]:
    """Return the ages of n sockets that came at a steady pace, the first so long ago."""
    return [first * (i + 1) / n for i in range(n)]


@given(st.integers(50, 3000), st.floats(1, 1e6))
def test_a_steady_pace_is_told(n: int, first: float) -> None:
    found = arrivals(came_and_stayed(n, first))
    assert found is not None
    assert found.oldest == pytest.approx(first)
    assert found.per_second == pytest.approx(n / first)


@given(st.integers(80, 3000), st.floats(1, 1e6))
def test_a_pile_is_told_among_connections_in_use(n: int, first: float) -> None:
    busy = [first / 1000 * (i % 10) for i in range(2 * n)]
    found = pile(came_and_stayed(20 * n, first) + busy)
    assert found is not None
    assert found.per_second == pytest.approx(20 * n / first, rel=0.02)
    assert found.oldest == pytest.approx(first, rel=0.1)


def test_a_few_that_are_as_old_as_the_process_do_not_hide_a_pile() -> None:
    found = pile([*came_and_stayed(400, 2 * HOURS), 90 * HOURS, 200 * HOURS])
    assert found is not None
    assert found.oldest == pytest.approx(2 * HOURS, rel=0.06)


@pytest.mark.parametrize("n", [0, 1, 49])
def test_few_ages_tell_nothing(n: int) -> None:
    assert arrivals(came_and_stayed(n, HOURS)) is None
    assert pile(came_and_stayed(n, HOURS)) is None


@pytest.mark.parametrize(
    "ages",
    [
        [5 * HOURS + i * 0.01 for i in range(500)],  # a pool opened at the start
        [0.0] * 500,
        [i * 0.001 for i in range(400)] + [6 * HOURS] * 100,  # in use, and forgotten at once
        [HOURS] * 250 + [2 * HOURS] * 250,  # two restarts of the clients
        [HOURS * (i / 500) ** 3 for i in range(500)],  # most have just been used
    ],
)
def test_other_ages_are_no_pile(ages: list[float]) -> None:
    assert pile(ages) is None


@given(st.lists(st.floats(0, 1e7), max_size=200))
def test_any_ages_are_answered(ages: list[float]) -> None:
    for found in (arrivals(ages), pile(ages)):
        assert found is None or (found.per_second > 0 and found.oldest > 0)
