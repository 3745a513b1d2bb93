"""A NAT that runs out of source ports towards one destination."""

from __future__ import annotations

import pytest

from tests.made import SYSCTLS, found, only_finding, report_of, snapshot_of
from twdiag.model.conntrack import Conntrack, ConntrackCounters, Snat
from twdiag.model.findings import Confidence, Severity
from twdiag.model.snapshot import Gap, Host, Snapshot

RULE = "snat-ports-running-out"
SNAT = Snat("192.0.2.1", "10.0.0.5", 443)
TEN = SNAT._replace(low=40000, high=40009, by_rule=True)
NEW, OLD = Host("gateway", "6.18"), Host("gateway", "6.1.0-21-amd64")


def gateway(
    states: dict[str, int], snat: Snat = SNAT, host: Host = NEW, failed: int = 0
) -> Snapshot:
    """Return a snapshot of a gateway whose entries on one SNAT's ports are in these states."""
    counters = ConntrackCounters(sum(states.values()), failed, failed, 0)
    seen = Conntrack(counters, 262_144, {snat: states}, states)
    return snapshot_of(conntrack=seen, counters=seen.counted, host=host)


def later(snapshot: Snapshot, more_failed: int) -> Snapshot:
    """Return the snapshot as the second of two, between which so many SYNs got no port."""
    before = snapshot._replace(taken_at=snapshot.taken_at - 10)
    counters = dict(snapshot.counters)
    for name in ("nf_conntrack.insert_failed", "nf_conntrack.drop"):
        counters[name] += more_failed
    return snapshot._replace(counters=counters, earlier=before)


@pytest.mark.parametrize(
    ("used", "severity"),
    [
        (45_158, None),
        (45_159, Severity.WARNING),
        (58_060, Severity.WARNING),
        (58_061, Severity.CRITICAL),
    ],
)
def test_it_warns_long_before_the_last_port(used: int, severity: Severity | None) -> None:
    assert found(gateway({"ESTABLISHED": used})).get(RULE) is severity


def test_the_limits_are_settings() -> None:
    snapshot = gateway({"ESTABLISHED": 10_000})
    assert found(snapshot, snat_ports_warning=0.1) == {RULE: Severity.WARNING}


def test_closed_connections_give_their_ports_back_on_a_kernel_that_evicts_them() -> None:
    states = {"TIME_WAIT": 63_000, "CLOSE": 12, "ESTABLISHED": 500}
    assert found(gateway(states)) == {}
    # DNS that lost a race counts in insert_failed too: no proof that ports are missing.
    assert found(later(gateway(states), 5)) == {}
    assert found(gateway(states, host=OLD)) == {RULE: Severity.WARNING}
    finding = only_finding(gateway(states, host=OLD), RULE)
    assert "63,012 by closed connections, for 120 s each" in finding.summary


def test_failures_beside_a_port_for_none_are_told_although_most_are_over() -> None:
    states = {"TIME_WAIT": 4, "ESTABLISHED": 6}
    assert found(gateway(states, TEN)) == {}
    assert found(later(gateway(states, TEN), 2)) == {RULE: Severity.WARNING}


def test_an_old_kernel_that_fails_is_critical() -> None:
    finding = only_finding(later(gateway({"TIME_WAIT": 60_000}, host=OLD), 12), RULE)
    assert finding.severity is Severity.CRITICAL
    assert finding.summary.endswith("12 SYNs got none between the two samples")
    assert finding.evidence["new_insert_failed"] == 12


def test_failing_before_all_ports_are_taken_is_critical() -> None:
    snapshot = gateway({"ESTABLISHED": 50_000})
    assert found(snapshot) == {RULE: Severity.WARNING}
    assert found(later(snapshot, 0)) == {RULE: Severity.WARNING}
    assert found(later(snapshot, 1)) == {RULE: Severity.CRITICAL}


def test_failures_that_no_snat_explains_are_not_blamed_on_one() -> None:
    assert found(later(gateway({"ESTABLISHED": 500}), 100)) == {}


def test_a_rules_own_range_is_what_counts() -> None:
    finding = only_finding(gateway({"ESTABLISHED": 9, "SYN_SENT": 1}, TEN), RULE)
    assert finding.severity is Severity.CRITICAL
    assert finding.confidence is Confidence.OBSERVED
    assert finding.summary == (
        "10.0.0.5:443: 10 of 10 NAT source ports of 192.0.2.1 used; new connections time out"
    )
    assert finding.subject == ("192.0.2.1", "10.0.0.5", 443)
    assert finding.evidence["entry_states"] == ["ESTABLISHED", "SYN_SENT"]
    assert finding.evidence["state_entries"] == [9, 1]
    assert any("which is 40000-40009" in advice.do for advice in finding.advice)
    assert found(gateway({"ESTABLISHED": 6}, TEN)) == {}


def test_a_handful_of_ports_is_meant_until_connections_fail() -> None:
    one = TEN._replace(high=40000)
    assert found(gateway({"ESTABLISHED": 1}, one)) == {}
    assert found(later(gateway({"ESTABLISHED": 1}, one), 1)) == {RULE: Severity.CRITICAL}


@pytest.mark.parametrize(
    ("timeout", "advised"),
    [("432000", "sooner than after 5 days"), ("7440", None), ("300", None), (None, "sooner")],
)
def test_a_timeout_is_advised_only_where_it_is_longer(
    timeout: str | None, advised: str | None
) -> None:
    name = "net.netfilter.nf_conntrack_tcp_timeout_established"
    sysctls = SYSCTLS if timeout is None else SYSCTLS | {name: timeout}
    snapshot = gateway({"ESTABLISHED": 10}, TEN)._replace(sysctls=sysctls)
    told = [a.do for a in only_finding(snapshot, RULE).advice if a.do.startswith("Forget")]
    assert told == ([] if advised is None else [f"Forget silent connections {advised}"])


def test_the_command_lists_the_family_and_the_zone_of_the_entries() -> None:
    zoned = TEN._replace(zone=5, destination="2001:db8::5")
    how = only_finding(gateway({"ESTABLISHED": 10}, zoned), RULE).advice[0].how
    assert "conntrack -L -f ipv6 -w 5 -p tcp --reply-src 2001:db8::5 --reply-port-src 443" in how


def test_what_was_not_read_to_the_end_is_told_as_the_least() -> None:
    snapshot = gateway({"ESTABLISHED": 60_000})
    assert snapshot.conntrack is not None
    cut = snapshot.conntrack._replace(complete=False)
    finding = only_finding(snapshot._replace(conntrack=cut), RULE)
    assert "at least 60,000 of 64,512" in finding.summary
    assert finding.confidence is Confidence.INFERRED


def test_of_a_part_of_the_table_the_whole_is_estimated() -> None:
    seen = Conntrack(
        ConntrackCounters(1_000_000, 0, 0, 0),
        2_000_000,
        {SNAT: {"ESTABLISHED": 9_000}, TEN: {"ESTABLISHED": 3}},
        {"ESTABLISHED": 140_000},
        10_000,
        complete=False,
    )
    finding = only_finding(snapshot_of(conntrack=seen, host=NEW), RULE)
    assert "about 60,000 of 64,512" in finding.summary
    assert (finding.evidence["estimated"], finding.evidence["lower_bound"]) == (True, False)
    assert finding.evidence["state_entries"] == [60_000]


def test_without_the_right_to_look_it_is_a_recorded_skip() -> None:
    seen = Conntrack(ConntrackCounters(60_000, 0, 0, 0), 262_144)
    gap = Gap("conntrack", "not permitted", "run as root")
    report = report_of(snapshot_of(conntrack=seen, gaps=(gap,)), RULE)
    assert report.findings == ()
    assert [skip.rule for skip in report.skipped] == [RULE]


def test_a_host_without_connection_tracking_hears_nothing_of_it() -> None:
    report = report_of(snapshot_of(), RULE)
    assert (report.findings, report.skipped, report.gaps) == ((), (), ())
