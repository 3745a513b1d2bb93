"""Sockets in no table: near the descriptor limit, and far from it."""

from __future__ import annotations

import pytest

from tests.made import found, only_finding, snapshot_of
from twdiag.model.findings import Severity
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
