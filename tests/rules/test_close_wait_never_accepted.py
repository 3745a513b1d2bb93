"""Connections that nobody accepted before their clients gave up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.made import (
    LISTEN_8080,
    aged,
    close_wait,
    found,
    only_finding,
    report_of,
    served,
    snapshot_of,
)
from twdiag.model.findings import ListenerSubject, Severity
from twdiag.model.snapshot import Owner

RULE = "close-wait-never-accepted"


def queued(number: int, age: float = 60) -> list[Any]:
    """Return CLOSE_WAITs without an inode: they stand in the accept queue."""
    return aged(close_wait(number, inode=0), age)


def test_a_listener_that_does_not_accept_is_named() -> None:
    owner = Owner(5, "gunicorn", "www")
    listener = LISTEN_8080._replace(recv_q=9)
    finding = only_finding(snapshot_of(listener, *queued(9), owners={7: (owner,)}))
    assert finding.rule == RULE
    assert finding.subject == ListenerSubject("0.0.0.0", 8080, (owner,))
    assert "gunicorn on 0.0.0.0:8080" in finding.summary
    evidence = finding.evidence
    assert (evidence["close_wait"], evidence["accept_queue"], evidence["backlog"]) == (9, 9, 511)
    assert (evidence["age_seconds_min"], evidence["age_seconds_max"]) == (60.0, 60.0)


@pytest.mark.parametrize(("number", "age"), [(4, 600), (300, 5)], ids=["few", "young"])
def test_few_or_young_ones_are_quiet(number: int, age: float) -> None:
    assert found(snapshot_of(LISTEN_8080, *queued(number, age))) == {}


def test_accepted_ones_and_mptcp_connections_without_inode_are_none() -> None:
    assert RULE not in found(snapshot_of(LISTEN_8080, *aged(close_wait(9), 60)))
    multipath = [socket._replace(mptcp=True) for socket in queued(9)]
    assert RULE not in found(snapshot_of(LISTEN_8080, *multipath))


def test_each_listener_is_judged_for_itself() -> None:
    other = LISTEN_8080._replace(local_port=8081, cookie=998)
    rows = [socket._replace(local_port=8080 + i % 2) for i, socket in enumerate(queued(13))]
    findings = report_of(snapshot_of(LISTEN_8080, other, *rows)).findings
    assert [(f.rule, f.evidence["close_wait"]) for f in findings] == [(RULE, 7), (RULE, 6)]


def test_a_queue_without_its_listener_is_nobodys() -> None:
    assert RULE not in found(snapshot_of(*queued(9)))


def test_a_full_queue_is_worse_than_dead_connections_in_it() -> None:
    full = LISTEN_8080._replace(recv_q=129, send_q=128)
    result = found(snapshot_of(full, *queued(9)))
    assert result[RULE] is Severity.CRITICAL
    assert result["accept-queue-full"] is Severity.CRITICAL


def test_what_the_server_has_accepted_is_told_since_that_may_be_its_limit() -> None:
    listener, *busy = served(512, 8080)
    full = listener._replace(recv_q=9)
    finding = only_finding(snapshot_of(full, *busy, *queued(9)), RULE)
    assert finding.evidence["accepted"] == 512
    assert "it holds 512 accepted connections: is that a limit of its own" in finding.advice[0].how
    # The longer queue has live connections too: those are not accepted either.
    longer = only_finding(snapshot_of(full._replace(recv_q=29), *busy, *queued(9)), RULE)
    assert longer.evidence["accepted"] == 492
    none = only_finding(snapshot_of(LISTEN_8080._replace(recv_q=9), *queued(9)), RULE)
    assert none.evidence["accepted"] == 0
    assert "its own" not in none.advice[0].how
