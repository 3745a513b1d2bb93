"""A moment tells the state of a socket, and the second in which its close began."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twdiag.census.moments import moment_of, moments_of, tally_of
from twdiag.model.census import History
from twdiag.model.sockets import Socket
from twdiag.tcp import State

from .reference import summary_of, told

ROWS = st.lists(
    st.tuples(
        st.sampled_from(State),
        st.integers(0, 3),
        st.integers(0, 70_000) | st.sampled_from([0, 1, 1000, 1001, 60_000, 600_000, 0xFFFFFFFF]),
    ),
    min_size=1,
)
# A TIME_WAIT has its timer unless the reader shows none; of other states FIN_WAIT2 can have it.
REAL = ROWS.map(
    lambda rows: [
        (s, t // 2 * 3 if s == 6 else 0 if t == 3 and s != 5 else t, e) for s, t, e in rows
    ]
)


def column_of(rows: list[tuple[State, int, int]]) -> bytes:
    states, timers = bytes(s for s, *_ in rows), bytes(t for _, t, _ in rows)
    return moments_of(states, timers, array("I", [e for *_, e in rows]))


@given(REAL)
@example([(State.TIME_WAIT, 3, 60_001)])
@example([(State.TIME_WAIT, 3, 59_000)] * 2)
@example([(State.TIME_WAIT, 0, 0)] * 2)
@example([(State.FIN_WAIT2, 3, 0xFFFFFFFF)])
def test_moments_add_up_to_states_seconds_and_orphans(rows: list[tuple[State, int, int]]) -> None:
    sockets = [
        Socket(s, "::", 0, "::", 0, t, e if t or s != State.TIME_WAIT else 0) for s, t, e in rows
    ]
    column = column_of([(s.state, s.timer, s.expires) for s in sockets])
    assert len(column) == len(rows)
    assert told(tally_of(Counter(column))) == summary_of(sockets)


def test_each_millisecond_of_the_minute_is_in_its_second() -> None:
    expires = array("I", range(60_001))
    column = moments_of(b"\6" * 60_001, b"\3" * 60_001, expires)
    assert list(column) == [60, *(60 - -(-left // 1000) for left in range(1, 60_001))]


def test_a_longer_time_wait_is_as_new_as_can_be() -> None:
    """Alibaba Cloud Linux has net.ipv4.tcp_tw_timeout, of up to 600 s."""
    assert moment_of(State.TIME_WAIT, 3, 600_000) == 0
    assert column_of([(State.TIME_WAIT, 3, left) for left in (600_000, 500, 60_001)]) == b"\0\x3b\0"


def test_time_waits_past_their_time_are_in_the_total_only() -> None:
    tally = tally_of(Counter(column_of([(State.TIME_WAIT, 3, 0)] * 3)))
    assert tally.time_wait == History((0,) * 60, 3)
    assert tally.sockets == 3


def test_a_fin_wait2_after_close_is_an_orphan_and_one_with_an_owner_is_none() -> None:
    column = column_of([(State.FIN_WAIT2, 3, 2001), (State.FIN_WAIT2, 2, 2001)])
    tally = tally_of(Counter(column))
    assert tally.states == {State.FIN_WAIT2: 2}
    assert tally.orphans == {3: 1}


# Histories.


@given(st.lists(st.integers(0, 50), min_size=60, max_size=60))
@example([0] * 50 + [100] + [0] * 9)
def test_rates_of_a_history(seconds: list[int]) -> None:
    history = History(tuple(seconds), sum(seconds))
    assert history.mean == pytest.approx(sum(seconds) / 60)
    assert history.before == pytest.approx(sum(seconds[:50]) / 50)
    assert min(seconds[50:]) <= history.recent <= max(seconds[50:])


@pytest.mark.parametrize(
    ("latest", "rate"),
    [
        ((0,) * 9 + (1000,), 0),
        ((50,) * 10, 50),
        ((60,) * 7 + (0,) * 3, 0),
        ((0,) * 7 + (60,) * 3, 60),
    ],
)
def test_a_burst_is_no_rate_and_what_has_ended_is_none(latest: tuple[int, ...], rate: int) -> None:
    assert History((0,) * 50 + latest, sum(latest)).recent == rate


@pytest.mark.parametrize(
    ("start", "slope"), [(20, 5), (60, 5), (60, 20), (100, 8), (100, -8), (400, -15), (400, 20)]
)
def test_a_rate_that_moves_is_at_most_two_seconds_late(start: int, slope: int) -> None:
    latest = tuple(start + slope * second for second in range(10))
    recent = History((0,) * 50 + latest, sum(latest)).recent
    assert abs(recent - latest[-1]) <= 2 * abs(slope)


def test_a_steady_rate_is_the_mean_of_ten_seconds() -> None:
    latest = (50, 45, 56, 48, 51, 60, 44, 47, 53, 52)
    assert History((0,) * 50 + latest, sum(latest)).recent == sum(latest) / 10
