"""FIN_WAIT2: connections that this host closed and the peer does not."""

from __future__ import annotations

import pytest

from tests.made import (
    SYSCTLS,
    aged,
    fin_wait2,
    found,
    held,
    listening,
    only_finding,
    orphans,
    report_of,
    snapshot_of,
)
from twdiag.model.findings import DestinationSubject, ListenerSubject, Severity

RULE = "peer-never-closes"


@pytest.mark.parametrize(
    ("number", "age", "severity"),
    [
        (4, 60, None),
        (60, 9, None),
        (5, 11, Severity.NOTICE),
        (49, 3600, Severity.NOTICE),
        (50, 11, Severity.WARNING),
    ],
)
def test_held_sockets_are_judged_by_number_and_age(
    number: int, age: float, severity: Severity | None
) -> None:
    assert found(snapshot_of(*aged(fin_wait2(number), age))).get(RULE) == severity


def test_the_destination_and_the_holder_are_named() -> None:
    snapshot = snapshot_of(*aged(fin_wait2(9), 25), owners=held(9, 20, 1024))
    finding = only_finding(snapshot)
    assert finding.subject == DestinationSubject(None, "10.0.0.5", 5432)
    assert "(9 half-closed, held by java, 0 orphans)" in finding.summary
    evidence = finding.evidence
    assert (evidence["fin_wait2"], evidence["held"], evidence["orphans"]) == (9, 9, 0)
    assert (evidence["age_seconds_min"], evidence["processes"]) == (25.0, ["java"])


@pytest.mark.parametrize(
    ("number", "left", "severity"), [(19, 30, None), (90, 55, None), (20, 30, Severity.NOTICE)]
)
def test_orphans_are_judged_by_number_and_by_what_of_their_time_is_gone(
    number: int, left: float, severity: Severity | None
) -> None:
    snapshot = snapshot_of(listening(443), *orphans(number, left=left))
    assert found(snapshot).get(RULE) == severity


def test_orphans_of_a_server_are_told_of_its_listener() -> None:
    finding = only_finding(snapshot_of(listening(443), *orphans(30, left=30)), RULE)
    assert finding.subject == ListenerSubject("0.0.0.0", 443)
    assert (finding.evidence["orphans"], finding.evidence["tcp_fin_timeout"]) == (30, 60)
    assert "clients of port 443 never closed 30 connections" in finding.summary


def test_above_a_minute_the_kernel_splits_the_wait() -> None:
    sysctls = SYSCTLS | {"net.ipv4.tcp_fin_timeout": "90"}
    rows = orphans(30, left=22)  # of the 30 s of the second part, 8 s are gone
    assert RULE not in found(snapshot_of(listening(443), *rows, sysctls=sysctls))
    rows = orphans(30, left=15)
    assert RULE in found(snapshot_of(listening(443), *rows, sysctls=sysctls))


def test_two_services_are_two_findings() -> None:
    other = aged(fin_wait2(6, to="10.0.0.6"), 20)
    rows = [*aged(fin_wait2(9), 20), *(s._replace(cookie=100 + s.cookie) for s in other)]
    evidence = [f.evidence["held"] for f in report_of(snapshot_of(*rows)).findings]
    assert sorted(map(int, map(str, evidence))) == [6, 9]


def test_without_an_age_nothing_is_old() -> None:
    assert found(snapshot_of(*fin_wait2(90))) == {}
