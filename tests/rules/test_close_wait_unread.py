"""Connections that the peer closed and the process does not read to their end."""

from __future__ import annotations

import pytest

from tests.made import (
    LISTEN_8080,
    aged,
    close_wait,
    found,
    held,
    only_finding,
    report_of,
    snapshot_of,
    spread,
)
from twdiag.model.findings import Severity

RULE = "close-wait-unread"


def test_a_server_that_leaves_requests_unread_is_stuck() -> None:
    rows = aged(close_wait(9, recv_q=400), 20)
    snapshot = snapshot_of(LISTEN_8080, *rows)
    assert found(snapshot) == {RULE: Severity.WARNING}
    evidence = only_finding(snapshot).evidence
    assert (evidence["recv_q"], evidence["unread_bytes"]) == (400, 9 * 399)
    assert evidence["server_side"] is True


@pytest.mark.parametrize(("number", "age"), [(4, 600), (500, 5)], ids=["few", "young"])
def test_few_or_young_ones_are_quiet(number: int, age: float) -> None:
    assert found(snapshot_of(LISTEN_8080, *aged(close_wait(number, recv_q=400), age))) == {}


def test_a_slow_server_that_has_read_the_request_is_not_called_stuck() -> None:
    rows = aged(close_wait(9, recv_q=1), 20)
    snapshot = snapshot_of(LISTEN_8080, *rows)
    assert found(snapshot) == {RULE: Severity.NOTICE}
    assert "only the FIN is unread" in only_finding(snapshot).summary
    lasting = aged(close_wait(60, recv_q=1), 70)
    assert found(snapshot_of(LISTEN_8080, *lasting)) == {RULE: Severity.WARNING}


@pytest.mark.parametrize("recv_q", [24, 25, 32, 58, 70, 86])
def test_a_tls_close_notify_is_no_unread_request(recv_q: int) -> None:
    rows = aged(close_wait(9, recv_q=recv_q), 20)
    assert found(snapshot_of(LISTEN_8080, *rows)) == {RULE: Severity.NOTICE}


@pytest.mark.parametrize("recv_q", [1, 400])
def test_a_client_that_leaks_is_told_from_a_pool_by_its_growth(recv_q: int) -> None:
    rows = close_wait(300, recv_q=recv_q, server=False)
    for earlier, worst in ((rows, Severity.NOTICE), (rows[:100], Severity.WARNING)):
        before = snapshot_of(*earlier, taken_at=999_900.0)
        assert report_of(snapshot_of(*aged(rows, 90), earlier=before)).status is worst


def test_responses_that_leak_are_told_from_one_look_by_their_ages() -> None:
    """374 descriptors in 300 s: the 624 that are left last for 500 s more."""
    rows = close_wait(374, recv_q=400, server=False)
    owners = held(374, 400, 1024)
    finding = only_finding(snapshot_of(*spread(rows, 300), owners=owners), RULE)
    assert finding.severity is Severity.WARNING
    assert finding.summary.endswith("if none is closed, the descriptor limit is reached in 8 min")
    assert finding.evidence["seconds_to_exhaustion"] == pytest.approx(500, rel=0.05)
    for sockets, limit in ((aged(rows, 300), 1024), (spread(rows, 300), 65_536)):
        later = snapshot_of(*sockets, owners=held(374, 400, limit))
        assert only_finding(later, RULE).severity is Severity.NOTICE
