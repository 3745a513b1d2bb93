"""Ports towards one destination: the budget, reuse, and the rate that fills them."""

from __future__ import annotations

import pytest

from tests.made import (
    SYSCTLS,
    aged,
    analyze,
    close_wait,
    closes_at,
    established,
    found,
    limits_of,
    listening,
    only_finding,
    report_of,
    snapshot_of,
    time_wait,
)
from twdiag import rules
from twdiag.model.findings import Confidence, DestinationSubject, Severity
from twdiag.model.snapshot import Owner
from twdiag.tcp import State

RULE = "ports-running-out"
HUNDRED = SYSCTLS | {"net.ipv4.ip_local_port_range": "40000 40099"}


@pytest.mark.parametrize(
    ("used", "severity"),
    [
        (14000, None),
        (14200, Severity.NOTICE),
        (20000, Severity.WARNING),
        (25500, Severity.CRITICAL),
    ],
)
def test_the_port_budget_has_four_levels(used: int, severity: Severity | None) -> None:
    assert found(snapshot_of(*time_wait(used))).get(RULE) == severity


def test_a_pool_of_live_connections_is_quiet() -> None:
    assert found(snapshot_of(*established(2000))) == {}


def test_ports_are_judged_per_destination_not_in_sum() -> None:
    rows = [s for host in range(3) for s in time_wait(32, port=40000, to=f"10.0.1.{host}")]
    assert RULE not in found(snapshot_of(*rows, sysctls=HUNDRED))
    rows = [s for port in range(3) for s in time_wait(32, port=40000, dport=5000 + port)]
    assert RULE not in found(snapshot_of(*rows, sysctls=HUNDRED))
    assert RULE in found(snapshot_of(*time_wait(3 * 32, port=40000), sysctls=HUNDRED))


def test_each_source_address_has_a_budget_of_its_own() -> None:
    rows = time_wait(12000)
    rows += [s._replace(local_address="10.0.0.2") for s in time_wait(15000)]
    finding = only_finding(snapshot_of(*rows), RULE)
    assert finding.subject == DestinationSubject("10.0.0.2", "10.0.0.5", 5432)
    assert finding.evidence["used"] == 15000


def test_reserved_ports_and_listeners_shrink_the_budget() -> None:
    sysctls = HUNDRED | {"net.ipv4.ip_local_reserved_ports": "40090-40099"}
    listener = listening(40080, "127.0.0.9", send_q=9)
    snapshot = snapshot_of(listener, *time_wait(80, port=40000), sysctls=sysctls)
    evidence = only_finding(snapshot, RULE).evidence
    assert (evidence["ports"], evidence["used"]) == (89, 80)
    assert (evidence["reserved_ports"], evidence["blocked_ports"]) == (10, 1)


def test_reuse_needs_timestamps_and_mode_two_only_serves_loopback() -> None:
    rows = time_wait(92, port=40000)
    for changes, severity in (
        ({"net.ipv4.tcp_tw_reuse": "0"}, Severity.CRITICAL),
        ({"net.ipv4.tcp_tw_reuse": "2"}, Severity.CRITICAL),
        ({"net.ipv4.tcp_tw_reuse": "1"}, Severity.NOTICE),
        ({"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.tcp_timestamps": "0"}, Severity.CRITICAL),
    ):
        assert found(snapshot_of(*rows, sysctls=HUNDRED | changes))[RULE] == severity
    loopback = [row._replace(local_address="127.0.0.1", remote_address="127.0.0.1") for row in rows]
    assert found(snapshot_of(*loopback, sysctls=HUNDRED))[RULE] == Severity.NOTICE


def test_reusable_time_waits_are_inferred_and_counted() -> None:
    sysctls = SYSCTLS | {"net.ipv4.tcp_tw_reuse": "1"}
    rows = [*time_wait(20000, age=5), *time_wait(300, port=53000, age=0.5)]
    finding = only_finding(snapshot_of(*rows, sysctls=sysctls), RULE)
    assert finding.confidence is Confidence.INFERRED
    assert (finding.evidence["used"], finding.evidence["reusable"]) == (20300, 20000)
    assert "20,000 of them reusable" in finding.summary


def test_a_sustained_rate_that_fills_the_ports_is_a_warning_before_they_are_full() -> None:
    rows = closes_at((second, 500) for second in range(12))
    finding = only_finding(snapshot_of(*rows), RULE)
    assert finding.severity is Severity.WARNING
    assert finding.evidence["projected"] == 31000  # for 62 s each
    assert finding.evidence["recent_closes_per_second"] == 500
    seconds = finding.evidence["seconds_to_exhaustion"]
    assert isinstance(seconds, float)
    assert 40 <= seconds <= 60  # (28232 - 6000) / 500 = 44.5, and the oldest leave from 48 s on
    assert "full in 45 s at 500/s" in finding.summary


def test_a_rate_that_the_ports_bear_is_quiet() -> None:
    rows = closes_at((second, 200) for second in range(30))
    assert found(snapshot_of(*rows), connection_churn=9999) == {}


def test_one_burst_is_not_taken_for_a_rate() -> None:
    assert found(snapshot_of(*time_wait(5000, age=0.5)), connection_churn=9999) == {}


def test_at_the_cap_the_use_of_ports_is_called_a_lower_bound() -> None:
    sysctls = SYSCTLS | {"net.ipv4.tcp_max_tw_buckets": "20000"}
    finding = only_finding(snapshot_of(*time_wait(20000), sysctls=sysctls), RULE)
    assert finding.evidence["lower_bound"] is True
    assert "at least 20,000" in finding.summary
    below = only_finding(snapshot_of(*time_wait(20000)), RULE)
    assert below.evidence["lower_bound"] is False
    assert "at least" not in below.summary


def test_reuse_that_never_happened_is_not_trusted_once_the_ports_are_full() -> None:
    sysctls = HUNDRED | {"net.ipv4.tcp_tw_reuse": "1"}
    rows = time_wait(100, port=40000)
    for recycled, severity in ((0, Severity.WARNING), (900, Severity.NOTICE)):
        snapshot = snapshot_of(*rows, sysctls=sysctls, counters={"TcpExt.TWRecycled": recycled})
        assert found(snapshot)[RULE] == severity


def test_two_samples_tell_whether_anything_is_reused() -> None:
    sysctls = HUNDRED | {"net.ipv4.tcp_tw_reuse": "1"}
    earlier = snapshot_of(taken_at=999_990.0, counters={"TcpExt.TWRecycled": 900})
    for recycled, severity in ((900, Severity.CRITICAL), (950, Severity.NOTICE)):
        snapshot = snapshot_of(
            *time_wait(100, port=40000),
            sysctls=sysctls,
            counters={"TcpExt.TWRecycled": recycled},
            earlier=earlier,
        )
        assert found(snapshot)[RULE] == severity


def test_a_range_without_any_free_port_is_critical_before_the_first_connection() -> None:
    sysctls = SYSCTLS | {
        "net.ipv4.ip_local_port_range": "40000 40009",
        "net.ipv4.ip_local_reserved_ports": "40000-40009",
    }
    assert found(snapshot_of(sysctls=sysctls)) == {RULE: Severity.CRITICAL}
    finding = only_finding(snapshot_of(sysctls=sysctls))
    assert "40000-40009" in finding.summary
    assert (finding.evidence["ports"], finding.evidence["reserved_ports"]) == (0, 10)


def test_all_ports_used_says_that_connect_fails() -> None:
    finding = only_finding(snapshot_of(*time_wait(100, port=40000), sysctls=HUNDRED), RULE)
    assert finding.severity is Severity.CRITICAL
    assert finding.summary.endswith("connect() fails now")


@pytest.mark.parametrize("state", [State.TIME_WAIT, State.ESTABLISHED, State.CLOSE_WAIT])
def test_the_advice_fits_the_state_that_takes_the_ports(state: State) -> None:
    rows = {
        State.TIME_WAIT: time_wait(90, port=40000),
        State.ESTABLISHED: established(90, port=40000, step=1),
        State.CLOSE_WAIT: [
            s._replace(local_port=40000 + i)
            for i, s in enumerate(aged(close_wait(90, server=False), 1))
        ],
    }[state]
    finding = only_finding(snapshot_of(*rows, sysctls=HUNDRED), RULE)
    assert finding.place is not None
    assert finding.place.state is state
    assert finding.evidence[state.name.lower()] == 90
    first = finding.advice[0]
    said = {
        State.TIME_WAIT: "Reuse connections",
        State.ESTABLISHED: "Hold fewer connections",
        State.CLOSE_WAIT: "Let the client close",
    }
    assert first.do.startswith(said[state])
    reuse = any("tcp_tw_reuse=1" in advice.how for advice in finding.advice)
    assert reuse is (state is State.TIME_WAIT)
    assert any("Widen the port range" in advice.do for advice in finding.advice)


def test_processes_with_live_connections_there_are_named_as_likely() -> None:
    rows = [*time_wait(80, port=40000), *established(1, port=40090)]
    owners = {50_000: (Owner(5, "shop", "www"),)}
    snapshot = snapshot_of(*rows, sysctls=HUNDRED, owners=owners)
    assert only_finding(snapshot, RULE).evidence["likely_processes"] == ["shop"]


def test_limits_of_the_rule_are_those_of_the_user() -> None:
    snapshot = snapshot_of(*time_wait(14200))
    limits = limits_of(ports_notice=0.6)
    assert analyze(snapshot, limits, rules.choose([RULE])).findings == ()
    assert report_of(snapshot, RULE).findings != ()
