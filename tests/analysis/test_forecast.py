"""When ports run out, against a play second by second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.forecast import seconds_until_full


def played(history: list[int], held: int, rate: float, ports: int, hold: int) -> float | None:
    """Open and end TIME_WAITs second by second, three lives long."""
    cohorts: list[tuple[int, float]] = [
        (born + hold, count) for born, count in zip(range(-59, 1), history, strict=True)
    ]
    for second in range(3 * hold + 2):
        if second:
            cohorts.append((second + hold, rate))
        alive = sum(count for end, count in cohorts if end > second)
        if held + alive >= ports:
            return float(second)
    return None


@given(
    st.lists(st.integers(0, 30), min_size=60, max_size=60),
    st.integers(0, 40),
    st.integers(0, 60).map(lambda half: half / 2),
    st.integers(1, 2500),
    st.sampled_from([1, 2, 7, 59, 60]),
)
def test_ports_run_out_when_a_play_of_every_second_says_so(
    history: list[int], held: int, rate: float, ports: int, hold: int
) -> None:
    expected = played(history, held, rate, ports, hold)
    assert seconds_until_full(history, held, rate, ports, hold) == expected


def test_what_is_full_is_full_now() -> None:
    assert seconds_until_full([0] * 59 + [100], 0, 0.0, 100, 60) == 0.0
    assert seconds_until_full([0] * 60, 100, 0.0, 100, 60) == 0.0
    assert seconds_until_full([0] * 60, 0, 0.0, 0, 60) == 0.0


def test_a_rate_that_settles_below_the_budget_never_fills_it() -> None:
    assert seconds_until_full([1] * 60, 0, 1.0, 61, 60) is None
    assert seconds_until_full([0] * 60, 0, 1.0, 60, 60) == 60.0
    # Ports that can be reused after a second are held for one second only.
    assert seconds_until_full([100] * 60, 0, 100.0, 1000, 1.0) is None
