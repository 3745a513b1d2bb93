"""A full accept queue: one instant, two samples, drops, and clients that gave up."""

from __future__ import annotations

import pytest

from tests.made import (
    HERE,
    LISTEN_8080,
    aged,
    client,
    close_wait,
    found,
    only_finding,
    report_of,
    snapshot_of,
)
from twdiag.model.findings import HostSubject, ListenerSubject, Severity
from twdiag.model.snapshot import Gap
from twdiag.model.sockets import Socket, TcpInfo
from twdiag.tcp import State

RULE = "accept-queue-full"
FULL = LISTEN_8080._replace(recv_q=129, send_q=128)
OVERFLOWS = "TcpExt.ListenOverflows"


@pytest.mark.parametrize(
    ("counters", "earlier", "severity"),
    [
        ({OVERFLOWS: 0}, None, Severity.NOTICE),
        ({OVERFLOWS: 7}, None, Severity.NOTICE),
        ({OVERFLOWS: 7}, {OVERFLOWS: 3}, Severity.CRITICAL),
        ({OVERFLOWS: 7}, {OVERFLOWS: 7}, Severity.NOTICE),
    ],
)
def test_one_full_instant_of_an_accept_queue_is_no_outage(
    counters: dict[str, int], earlier: dict[str, int] | None, severity: Severity
) -> None:
    before = None if earlier is None else snapshot_of(LISTEN_8080, counters=earlier)
    snapshot = snapshot_of(FULL, counters=counters, earlier=before)
    assert found(snapshot) == {RULE: severity}


def test_a_queue_that_has_room_for_one_more_is_not_full() -> None:
    assert found(snapshot_of(FULL._replace(recv_q=128))) == {}
    assert found(snapshot_of(LISTEN_8080)) == {}


def test_the_queue_and_its_limits_are_told() -> None:
    finding = only_finding(snapshot_of(FULL))
    assert finding.subject == ListenerSubject("0.0.0.0", 8080)
    evidence = finding.evidence
    assert (evidence["accept_queue"], evidence["backlog"], evidence["somaxconn"]) == (
        129,
        128,
        4096,
    )
    assert "129 waiting, backlog 128" in finding.summary


def test_connections_refused_between_two_samples_are_told_though_no_queue_is_full_now() -> None:
    before = snapshot_of(LISTEN_8080, counters={OVERFLOWS: 4})
    now = snapshot_of(LISTEN_8080, counters={OVERFLOWS: 1150}, earlier=before)
    finding = only_finding(now)
    assert (finding.rule, finding.severity) == (RULE, Severity.WARNING)
    assert finding.subject == HostSubject()
    assert finding.evidence["new_listen_overflows"] == 1146
    assert finding.evidence["fullest_listeners"] == ["0.0.0.0:8080"]


def test_an_accept_queue_that_is_full_in_two_samples_is_critical() -> None:
    result = found(snapshot_of(FULL, earlier=snapshot_of(FULL, taken_at=999_990.0)))
    assert result == {RULE: Severity.CRITICAL}
    drained = snapshot_of(FULL._replace(recv_q=3), taken_at=999_990.0)
    assert found(snapshot_of(FULL, earlier=drained)) == {RULE: Severity.NOTICE}


def test_a_client_that_gave_up_in_the_queue_makes_it_critical() -> None:
    gone = close_wait(1, inode=0)
    assert found(snapshot_of(FULL, *aged(gone, 20)))[RULE] is Severity.CRITICAL
    assert found(snapshot_of(FULL, *aged(gone, 5)))[RULE] is Severity.NOTICE


def unaccepted(n: int, seconds: float, *, age: bool = True) -> list[Socket]:
    """Return live connections in the queue of port 8080 that have waited so long, and requests."""
    info = TcpInfo(int(seconds * 1000), 200, 200) if age else None
    return [
        Socket(State.ESTABLISHED, HERE, 8080, client(i), 40000 + i, recv_q=18, cookie=i, info=info)
        for i in range(1, n + 1)
    ]


@pytest.mark.parametrize(
    ("seconds", "full", "otherwise"),
    [
        (4.9, Severity.NOTICE, None),
        (5, Severity.WARNING, None),
        (29.9, Severity.WARNING, None),
        (30, Severity.CRITICAL, Severity.WARNING),
        (66, Severity.CRITICAL, Severity.WARNING),
    ],
)
def test_live_connections_that_wait_for_long_make_it_worse(
    seconds: float, full: Severity, otherwise: Severity | None
) -> None:
    waiting = unaccepted(3, seconds)
    assert found(snapshot_of(FULL, *waiting)).get(RULE) is full
    assert found(snapshot_of(FULL._replace(recv_q=3), *waiting)).get(RULE) is otherwise


def test_the_oldest_wait_is_told() -> None:
    waiting = [*unaccepted(2, 3), *unaccepted(1, 66)]
    finding = only_finding(snapshot_of(FULL, *waiting), RULE)
    assert finding.evidence["oldest_waiting_seconds"] == 66
    assert finding.summary == (
        "the server on 0.0.0.0:8080 has a full accept queue: 129 waiting, backlog 128; the oldest "
        "has waited 66 s"
    )
    roomy = only_finding(snapshot_of(FULL._replace(recv_q=3), *waiting), RULE)
    assert roomy.summary == (
        "3 connections to the server on 0.0.0.0:8080 wait for accept(), the oldest for 66 s"
    )


def test_a_queue_whose_ages_were_not_seen_is_judged_as_before() -> None:
    snapshot = snapshot_of(FULL, *unaccepted(3, 66, age=False))
    assert found(snapshot) == {RULE: Severity.NOTICE}
    assert only_finding(snapshot).evidence["oldest_waiting_seconds"] is None


def test_another_listeners_old_connections_do_not_count() -> None:
    other = FULL._replace(local_port=443, inode=8, cookie=998, recv_q=0)
    snapshot = snapshot_of(FULL, *unaccepted(3, 66), other)
    assert {f.subject.port for f in report_of(snapshot, RULE).findings} == {8080}  # type: ignore[union-attr]
    accepted = [s._replace(inode=50 + n) for n, s in enumerate(unaccepted(3, 66))]
    assert found(snapshot_of(FULL, *accepted)) == {RULE: Severity.NOTICE}


def test_one_full_copy_of_a_reuseport_listener_is_told() -> None:
    copies = [LISTEN_8080, FULL._replace(cookie=998, inode=8)]
    finding = only_finding(snapshot_of(*copies))
    assert finding.evidence["accept_queue"] == 129


def test_a_source_without_the_backlog_does_not_judge() -> None:
    report = report_of(snapshot_of(FULL, gaps=(Gap("backlog", "proc", "use netlink"),)))
    assert report.findings == ()
    assert RULE in [skip.rule for skip in report.skipped]
