"""A closing rate that has risen within the minute, before the count follows."""

from __future__ import annotations

import pytest

from tests.made import closes_at, found, only_finding, snapshot_of
from twdiag.model.findings import Severity

RULE = "time-wait-rising"


def minute(before: int, now: int) -> list[tuple[int, int]]:
    """Return closes for each second: `before` until ten seconds ago, `now` since."""
    return [(second, now if second < 10 else before) for second in range(60)]


def test_a_rate_that_has_doubled_is_told_with_where_it_leads() -> None:
    snapshot = snapshot_of(*closes_at(minute(before=100, now=300)))
    assert found(snapshot, connection_churn=99999)[RULE] == Severity.NOTICE
    evidence = only_finding(snapshot, RULE).evidence
    assert evidence["time_wait"] == 8000
    assert evidence["recent_closes_per_second"] == 300
    assert evidence["closes_per_second_before"] == 100
    assert evidence["closes_per_second"] == 133.33  # the mean of the minute
    assert evidence["projected"] == 18000
    history = evidence["closes_per_second_history"]
    assert isinstance(history, list)
    assert history == [100] * 50 + [300] * 10


@pytest.mark.parametrize(
    ("before", "now"),
    [(300, 300), (160, 300), (300, 100), (0, 200)],
    ids=["steady", "less than twice", "falling", "a small share of the table"],
)
def test_what_does_not_rise_to_a_good_share_of_the_table_is_quiet(before: int, now: int) -> None:
    assert RULE not in found(snapshot_of(*closes_at(minute(before, now))))


def test_one_burst_is_no_rise() -> None:
    assert RULE not in found(snapshot_of(*closes_at([(3, 5000)])))


def test_before_is_a_mean_unless_nothing_closed() -> None:
    steady = only_finding(snapshot_of(*closes_at(minute(before=100, now=300))), RULE)
    assert steady.summary.endswith("connections close at 300/s now, 100/s on average before")
    # Its mean over the 50 s before would be 18/s, at which nothing ever closed.
    begun = closes_at([(second, 300) for second in range(13)])
    summary = only_finding(snapshot_of(*begun), RULE).summary
    assert summary.endswith("connections close at 300/s now, none until 13 s ago")


def test_above_the_table_is_said() -> None:
    sysctls = {"net.ipv4.tcp_max_tw_buckets": "10000"}
    snapshot = snapshot_of(*closes_at(minute(before=100, now=300)), sysctls=sysctls)
    assert "level off near 18,000, above the table's 10,000" in only_finding(snapshot, RULE).summary
