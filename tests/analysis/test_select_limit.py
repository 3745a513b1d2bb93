"""When select() is to blame for sockets that nobody watches."""

from __future__ import annotations

import pytest

from twdiag.analysis.select_limit import beyond_select
from twdiag.model.findings import Confidence
from twdiag.model.waits import Act, Cause, Conclusion, WaitGroup, Waits


def waits_of(call: str, cause: Cause | None = Cause.FORGOTTEN) -> Waits:
    """Return what a process with one thread waits for: some call, and what was concluded."""
    group = WaitGroup(1, Act.POLL, call, None, 1)
    concluded = cause and Conclusion(cause, Confidence.INFERRED, "said")
    return Waits(7, 1, 1, (group,), 8, 0, 0, concluded or None, ("said",))


@pytest.mark.parametrize(
    ("call", "descriptors", "blamed"),
    [
        ("select", 1025, True),
        ("pselect6", 4000, True),
        ("select", 1024, False),
        ("select", None, False),
        ("poll", 4000, False),
        ("epoll_wait", 4000, False),
    ],
)
def test_it_takes_a_select_and_more_descriptors_than_it_can_watch(
    call: str, descriptors: int | None, blamed: bool
) -> None:
    assert beyond_select(waits_of(call), descriptors) is blamed


@pytest.mark.parametrize("cause", [None, Cause.LOCKED, Cause.UPSTREAM])
def test_a_process_that_is_stuck_is_not_blamed_for_it(cause: Cause | None) -> None:
    assert not beyond_select(waits_of("select", cause), 4000)
