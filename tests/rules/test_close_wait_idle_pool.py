"""Idle connections of a client's pool that the server closed."""

from __future__ import annotations

import pytest

from tests.made import (
    SYSCTLS,
    aged,
    close_wait,
    established,
    found,
    held,
    only_finding,
    report_of,
    snapshot_of,
    spread,
)
from twdiag.model.findings import ProcessSubject, Severity

RULE = "close-wait-idle-pool"


@pytest.mark.parametrize("recv_q", [1, 24, 25, 32, 58, 70, 86])
def test_a_pool_is_no_leak(recv_q: int) -> None:
    rows = aged(close_wait(30, recv_q=recv_q, server=False), 600)
    assert found(snapshot_of(*rows)) == {RULE: Severity.NOTICE}


@pytest.mark.parametrize("recv_q", [2, 23, 26, 31, 33, 57, 59, 400])
def test_any_other_queue_is_data_that_nobody_reads(recv_q: int) -> None:
    rows = aged(close_wait(30, recv_q=recv_q, server=False), 600)
    assert RULE not in found(snapshot_of(*rows))


def test_a_small_idle_pool_and_a_live_one_are_quiet() -> None:
    assert found(snapshot_of(*aged(close_wait(4, recv_q=1, server=False), 600))) == {}
    assert found(snapshot_of(*established(300))) == {}


def test_a_pool_that_fills_the_descriptors_is_a_warning() -> None:
    rows = aged(close_wait(30, recv_q=1, server=False), 600)
    finding = only_finding(snapshot_of(*rows, owners=held(30, 40, 60)), RULE)
    assert finding.severity is Severity.WARNING
    assert finding.subject == ProcessSubject(812, "java", "app")
    assert finding.evidence["recv_q"] == 1


def test_a_pool_that_grows_without_bound_is_a_warning() -> None:
    rows = close_wait(80, recv_q=1, server=False)
    for earlier, worst in ((rows, Severity.NOTICE), (rows[:60], Severity.WARNING)):
        before = snapshot_of(*earlier, taken_at=999_900.0)
        assert report_of(snapshot_of(*aged(rows, 90), earlier=before)).status is worst


def test_the_connections_of_a_service_whose_listener_has_gone_are_no_clients_pool() -> None:
    assert RULE not in found(snapshot_of(*aged(close_wait(9, recv_q=1), 20)))


def test_a_client_with_a_fixed_port_has_a_pool_like_any_other() -> None:
    rows = [
        socket._replace(local_port=900 + i, remote_port=2049)
        for i, socket in enumerate(aged(close_wait(9, recv_q=1, server=False), 20))
    ]
    assert found(snapshot_of(*rows)) == {RULE: Severity.NOTICE}


def test_the_range_decides_which_ports_are_clients() -> None:
    rows = [
        socket._replace(local_port=20000 + i, remote_port=30000)
        for i, socket in enumerate(aged(close_wait(9, recv_q=1, server=False), 20))
    ]
    assert RULE not in found(snapshot_of(*rows))
    wide = SYSCTLS | {"net.ipv4.ip_local_port_range": "15000 65535"}
    assert RULE in found(snapshot_of(*rows, sysctls=wide))


def test_a_pool_that_leaks_is_told_from_one_look_by_the_ages_of_its_connections() -> None:
    rows = close_wait(374, recv_q=1, server=False)
    leaks = snapshot_of(*spread(rows, 300), owners=held(374, 400, 1024))
    assert only_finding(leaks, RULE).severity is Severity.WARNING
    assert only_finding(leaks, RULE).evidence["seconds_to_exhaustion"] == pytest.approx(
        500, rel=0.05
    )
    filled_at_once = snapshot_of(*aged(rows, 300), owners=held(374, 400, 1024))
    assert only_finding(filled_at_once, RULE).severity is Severity.NOTICE
    assert only_finding(filled_at_once, RULE).evidence["seconds_to_exhaustion"] is None
