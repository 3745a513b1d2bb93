"""What is said of a fact is how it is counted."""

from __future__ import annotations

from twdiag.model import facts
from twdiag.model.census import NOW_SECONDS, RECENT_SECONDS


def test_the_rate_now_is_told_as_it_is_counted() -> None:
    assert (RECENT_SECONDS, NOW_SECONDS) == (10, 3)
    assert "mean of the last ten seconds where they are steady" in facts.CLOSES_NOW.meaning
    assert "median of three" in facts.CLOSES_NOW.meaning
