"""Sockets that no table shows, near the limit and far from it, and those that only seem to be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.made import found, only_finding, report_of, snapshot_of
from twdiag.model.findings import Confidence, Severity
from twdiag.model.snapshot import Breakdown, Owner, Snapshot

RULE = "sockets-nobody-sees"


def holding(lost: int, *, fds: int, limit: int) -> Snapshot:
    """Return a snapshot with a process that has lost so many of its sockets."""
    owner = Owner(7, "exporter", "root", fds, limit)
    breakdown = Breakdown(fds, {}, lost, {"file": fds - lost})
    return snapshot_of(crowded=(owner,), breakdowns={7: breakdown})


@pytest.mark.parametrize(
    ("lost", "fds", "limit", "severity"),
    [
        (19, 70, 76, None),
        (20, 50, 76, Severity.WARNING),
        (300, 600, 1_024, Severity.WARNING),
        (990, 1_000, 1_024, Severity.CRITICAL),
        (18_763, 18_800, 1_048_576, Severity.NOTICE),
        (1_000, 1_100, 1_048_576, Severity.NOTICE),
        (999, 1_100, 1_048_576, None),
        (1_000, 9_000, 1_048_576, None),
    ],
)
def test_they_count_against_the_limit_or_where_they_are_most_of_what_there_is(
    lost: int, fds: int, limit: int, severity: Severity | None
) -> None:
    assert found(holding(lost, fds=fds, limit=limit)).get(RULE) == severity


def test_the_finding_has_the_process_and_the_number() -> None:
    finding = only_finding(holding(18_763, fds=18_800, limit=1_048_576), RULE)
    assert finding.summary == (
        "exporter (pid 7) holds 18,763 sockets that no table shows: reset by the peer, never "
        "closed; 18,800 of 1,048,576 descriptors open (1 %)"
    )


def crowded(fds: int, nowhere: int, **changes: Any) -> Snapshot:
    """Return a host on which a process with a limit of 128 has so many sockets in no table."""
    owner = Owner(812, "java", "app", fds, 128)
    breakdown = Breakdown(fds, {}, nowhere, {"file": 4})._replace(**changes)
    return snapshot_of(crowded=(owner,), breakdowns={812: breakdown})


@pytest.mark.parametrize(
    ("fds", "lost", "severity"),
    [
        (70, 31, None),
        (70, 32, Severity.WARNING),
        (121, 100, Severity.WARNING),
        (122, 100, Severity.CRITICAL),
    ],
)
def test_it_is_judged_by_their_share_of_the_limit(
    fds: int, lost: int, severity: Severity | None
) -> None:
    assert found(crowded(fds, lost)).get(RULE) == severity


def test_what_was_seen_of_all_namespaces_is_observed() -> None:
    finding = only_finding(crowded(80, 60), RULE)
    assert finding.confidence is Confidence.OBSERVED
    assert "reset by the peer, never closed; 80 of 128 descriptors" in finding.summary


def test_sockets_of_another_namespace_are_no_leak() -> None:
    assert RULE not in found(crowded(80, 0, elsewhere=60))
    finding = only_finding(crowded(110, 0, elsewhere=100), "fd-limit-near")
    assert finding.summary.endswith(", 100 sockets of another network namespace")
    assert finding.evidence["sockets_elsewhere"] == 100


def test_what_may_be_of_a_namespace_that_may_not_be_read_is_unknown() -> None:
    assert RULE not in found(crowded(80, 0, uncertain=60))
    finding = only_finding(crowded(110, 0, uncertain=100), "fd-limit-near")
    assert finding.summary.endswith(", 100 sockets in no table that could be read")
    assert finding.evidence["sockets_in_no_table"] is None


def test_where_namespaces_were_not_looked_at_the_finding_says_so() -> None:
    (finding,) = report_of(crowded(80, 60, hidden=True), RULE).findings
    assert finding.confidence is Confidence.INFERRED
    assert "unless they are of a network namespace that was not looked at" in finding.summary
    finding = only_finding(crowded(110, 100, hidden=True), "fd-limit-near")
    assert finding.summary.endswith(", 100 sockets in no table that was looked at")
