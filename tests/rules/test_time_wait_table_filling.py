"""The kernel's TIME_WAIT table, and what it loses when it overflows."""

from __future__ import annotations

import pytest

from tests.made import SYSCTLS, closes_at, found, only_finding, snapshot_of, time_wait
from twdiag.model.findings import Severity

RULE = "time-wait-table-filling"
SIZE = "net.ipv4.tcp_max_tw_buckets"


@pytest.mark.parametrize(
    ("used", "severity"),
    [(69, None), (70, Severity.WARNING), (90, Severity.CRITICAL), (100, Severity.CRITICAL)],
)
def test_the_table_has_three_levels(used: int, severity: Severity | None) -> None:
    sysctls = SYSCTLS | {SIZE: "100000"}
    snapshot = snapshot_of(sockstat={"TCP.tw": 1000 * used, "TCP.orphan": 0}, sysctls=sysctls)
    assert found(snapshot).get(RULE) == severity


def test_overflow_between_two_samples_is_critical_even_with_a_half_empty_table() -> None:
    earlier = snapshot_of(taken_at=999_990.0)
    counters = {"TcpExt.TCPTimeWaitOverflow": 12}
    snapshot = snapshot_of(counters=counters, earlier=earlier)
    assert found(snapshot) == {RULE: Severity.CRITICAL}
    finding = only_finding(snapshot)
    assert finding.evidence["overflows"] == finding.evidence["overflows_since_boot"] == 12
    assert "12 sockets lost their TIME_WAIT between the two samples" in finding.summary


def test_an_overflow_counted_long_ago_does_not_alarm() -> None:
    assert found(snapshot_of(counters={"TcpExt.TCPTimeWaitOverflow": 12})) == {}
    same = snapshot_of(taken_at=999_990.0, counters={"TcpExt.TCPTimeWaitOverflow": 12})
    counters = {"TcpExt.TCPTimeWaitOverflow": 12}
    assert found(snapshot_of(counters=counters, earlier=same)) == {}


def test_a_counter_that_began_anew_tells_nothing() -> None:
    earlier = snapshot_of(taken_at=999_990.0, counters={"TcpExt.TCPTimeWaitOverflow": 50})
    counters = {"TcpExt.TCPTimeWaitOverflow": 12}
    assert found(snapshot_of(counters=counters, earlier=earlier)) == {}


def test_the_rate_is_told_while_connections_close() -> None:
    sysctls = SYSCTLS | {SIZE: "100"}
    burst = snapshot_of(*closes_at([(30, 95)]), sysctls=sysctls)
    steady = snapshot_of(*closes_at([(second, 2) for second in range(47)]), sysctls=sysctls)
    assert only_finding(burst, RULE).advice[-1].how == "keep connections alive or pool them"
    assert only_finding(steady, RULE).advice[-1].how.endswith("them; they close at 2.0/s now")


def test_a_full_table_says_what_was_lost_since_boot() -> None:
    sysctls = SYSCTLS | {SIZE: "5000"}
    counters = {"TcpExt.TCPTimeWaitOverflow": 7}
    snapshot = snapshot_of(*time_wait(5000), sysctls=sysctls, counters=counters)
    finding = only_finding(snapshot, RULE)
    assert finding.summary.endswith("7 sockets lost their TIME_WAIT since boot")
    assert finding.evidence["used_ratio"] == 1.0
    assert finding.evidence["overflows"] is None
    assert finding.evidence["closes_per_second"] == 83.33
    # The default is half of the hash table, which is more than twice this size.
    assert f"sysctl -w {SIZE}=131072" in finding.advice[0].how


def test_a_table_of_size_nought_is_a_setting() -> None:
    assert RULE not in found(snapshot_of(sysctls=SYSCTLS | {SIZE: "0"}))
