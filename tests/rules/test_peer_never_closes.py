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
from twdiag.model.sockets import TIMER_KEEPALIVE

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
    for left, age in ((30, 30.0), (22, 38.0)):  # they have waited for 30 s as full sockets
        finding = only_finding(
            snapshot_of(listening(443), *orphans(30, left=left), sysctls=sysctls), RULE
        )
        assert finding.evidence["age_seconds_min"] == age
        assert finding.advice[1].do == "Wait: the kernel drops orphans after 60 s by itself"


@pytest.mark.parametrize(("age", "severity"), [(9, None), (11, Severity.NOTICE)])
def test_an_orphan_that_is_no_mini_socket_yet_counts_too(
    age: float, severity: Severity | None
) -> None:
    sysctls = SYSCTLS | {"net.ipv4.tcp_fin_timeout": "120"}
    full = [
        s._replace(timer=TIMER_KEEPALIVE, cookie=n) for n, s in enumerate(orphans(30, left=50), 1)
    ]
    snapshot = snapshot_of(listening(443), *aged(full, age), sysctls=sysctls)
    assert found(snapshot).get(RULE) == severity


def test_an_orphan_with_a_long_time_left_is_not_said_to_be_older_than_it_is() -> None:
    sysctls = SYSCTLS | {"net.ipv4.tcp_fin_timeout": "200"}
    rows = orphans(30, left=139)  # of 140 s, after 140 s as a full socket
    finding = only_finding(snapshot_of(listening(443), *rows, sysctls=sysctls), RULE)
    assert finding.evidence["age_seconds_min"] == 140.0


def test_two_services_are_two_findings() -> None:
    other = aged(fin_wait2(6, to="10.0.0.6"), 20)
    rows = [*aged(fin_wait2(9), 20), *(s._replace(cookie=100 + s.cookie) for s in other)]
    evidence = [f.evidence["held"] for f in report_of(snapshot_of(*rows)).findings]
    assert sorted(map(int, map(str, evidence))) == [6, 9]


def test_without_an_age_nothing_is_old() -> None:
    assert found(snapshot_of(*fin_wait2(90))) == {}
