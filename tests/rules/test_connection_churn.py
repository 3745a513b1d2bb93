"""Many short connections to one destination, closed first by this host."""

from __future__ import annotations

import pytest

from tests.made import HERE, established, found, only_finding, snapshot_of, time_wait
from twdiag.model.findings import DestinationSubject, Severity
from twdiag.model.snapshot import Owner
from twdiag.wording import command_in

RULE = "connection-churn"


def test_a_client_without_a_pool_is_a_notice() -> None:
    snapshot = snapshot_of(*time_wait(600))
    assert found(snapshot) == {RULE: Severity.NOTICE}
    finding = only_finding(snapshot)
    assert finding.subject == DestinationSubject(HERE, "10.0.0.5", 5432)
    assert finding.evidence["time_wait"] == 600
    assert finding.evidence["closes_per_second"] == 10.0
    assert finding.summary == (
        "600 connections to 10.0.0.5:5432 closed by this host in the last minute (10/s)"
    )


@pytest.mark.parametrize("closed", [0, 499])
def test_a_pool_and_some_closes_are_quiet(closed: int) -> None:
    rows = [*established(600), *time_wait(closed, port=50000)]
    assert found(snapshot_of(*rows)) == {}


def test_each_destination_is_counted_for_itself() -> None:
    rows = [s for i in range(10) for s in time_wait(400, to=f"10.2.0.{i}")]
    assert found(snapshot_of(*rows)) == {}


def test_live_connections_name_a_likely_process_but_the_summary_does_not_blame_it() -> None:
    rows = [*time_wait(600), *established(2, port=50000)]
    owners = {50_000 + i: (Owner(5 + i, "shop", "www"),) for i in range(2)}
    finding = only_finding(snapshot_of(*rows, owners=owners))
    assert finding.evidence["likely_processes"] == ["shop"]
    assert finding.evidence["established"] == 2
    assert "shop" not in finding.summary


def test_the_next_command_names_the_process_that_closes() -> None:
    advice = only_finding(snapshot_of(*time_wait(600))).advice
    commands = [command for a in advice if (command := command_in(a.how))]
    assert commands == ["twdiag trace --port 5432 --for 10s"]
