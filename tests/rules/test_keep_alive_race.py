"""A server that closes idle connections is told only where its clients still use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.made import HERE, listening, only_finding, report_of, snapshot_of
from twdiag.model.findings import Confidence, Finding, ListenerSubject, Place, Severity
from twdiag.model.idling import IdleEnd, Idling, Watched
from twdiag.model.snapshot import Gap, Owner
from twdiag.tcp import State

if TYPE_CHECKING:
    from tests.conftest import Played
    from twdiag.model.findings import Report

RULE = "keep-alive-race"


def ends(number: int, idle: float = 2.0, **changes: Any) -> tuple[IdleEnd, ...]:
    """Return idle closes, 7 s after one another, of connections that were used after pauses."""
    usual = IdleEnd(0.0, idle, "10.9.0.1", 0.9 * idle, 3)
    return tuple(usual._replace(ended_at=7.0 * n, **changes) for n in range(number))


def report(*idling: Idling, sees_lost: bool = True, **changes: Any) -> Report:
    """Return what the rules say of a host with a listener on 8080 that was watched so."""
    watched = Watched(60.0, idling, sees_lost)
    rows = [listening(8080)]
    return report_of(snapshot_of(*rows, watched=watched, **changes), RULE)


def finding(*idling: Idling, **changes: Any) -> Finding:
    """Return the only finding."""
    (found,) = report(*idling, **changes).findings
    return found


def lost(number: int, of: int) -> tuple[IdleEnd, ...]:
    """Return idle closes of which some met a request."""
    return tuple(end._replace(lost=n < number) for n, end in enumerate(ends(of)))


def test_a_request_that_met_a_close_is_a_warning() -> None:
    found = finding(Idling(HERE, 8080, lost(2, 14)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.OBSERVED)
    assert found.summary == (
        "the server on 0.0.0.0:8080 lost 2 requests in 14 closes: it closes idle connections after "
        "2.0 s while their clients still use them"
    )
    assert found.evidence["idle_timeout_seconds"] == 2.0
    assert (found.evidence["idle_closes"], found.evidence["lost_requests"]) == (14, 2)
    assert found.evidence["requests_per_connection"] == 3


def test_late_data_of_which_nobody_knows_what_it_was_is_a_notice() -> None:
    late = tuple(end._replace(late=True, reused_after=None) for end in ends(14))
    found = finding(Idling(HERE, 8080, late))
    assert (found.severity, found.confidence) == (Severity.NOTICE, Confidence.INFERRED)
    assert found.summary.endswith(
        "data came after 14 of 14 closes, lost requests or late last words"
    )
    assert (found.evidence["lost_requests"], found.evidence["late_data"]) == (None, 14)
    few = tuple(end._replace(late=n < 2) for n, end in enumerate(ends(14, reused_after=None)))
    assert report(Idling(HERE, 8080, few)).findings == ()


def test_a_lost_request_leaves_no_time_wait() -> None:
    late = tuple(end._replace(late=True, reused_after=None) for end in ends(14))
    met = [finding(Idling(HERE, 8080, those)).place for those in (lost(2, 14), late)]
    reset = Place.of(State.FIN_WAIT2)._replace(next="the client's data arrives, a RST goes back")
    assert met == [reset] * 2
    assert finding(Idling(HERE, 8080, ends(14))).place == Place.of(State.TIME_WAIT)


def test_clients_that_use_connections_after_nearly_as_long_are_a_notice() -> None:
    found = finding(Idling(HERE, 8080, ends(14)))
    assert (found.severity, found.confidence) == (Severity.NOTICE, Confidence.INFERRED)
    assert "clients use them again after pauses of 1.8 s" in found.summary
    assert found.evidence["lost_requests"] == 0
    assert found.evidence["used_again_after_seconds"] == 1.8


def test_whether_requests_were_lost_is_not_zero_where_nobody_would_have_seen_it() -> None:
    assert finding(Idling(HERE, 8080, ends(14)), sees_lost=False).evidence["lost_requests"] is None


@pytest.mark.parametrize(
    ("what", "idling"),
    [
        ("never used again", Idling(HERE, 8080, ends(40, reused_after=None))),
        ("used in bursts only", Idling(HERE, 8080, ends(40, 75.0, reused_after=0.8))),
        ("clients close first", Idling(HERE, 8080, (), (1.5,) * 40, 1.5)),
        ("too few", Idling(HERE, 8080, ends(2))),
        ("a reload", Idling(HERE, 8080, tuple(e._replace(ended_at=5.0) for e in lost(3, 40)))),
        ("no listener any more", Idling(HERE, 9090, lost(3, 40))),
    ],
)
def test_other_servers_are_quiet(what: str, idling: Idling) -> None:
    assert report(idling).findings == (), what


def test_one_look_says_nothing_about_it() -> None:
    found = report_of(snapshot_of(listening(8080)), RULE)
    assert found.findings == ()
    assert found.skipped == ()


def test_where_closes_were_not_to_be_seen_it_was_not_judged() -> None:
    gap = Gap("closes", "the kernel does not announce ended sockets", "modprobe tcp_diag")
    found = report_of(snapshot_of(listening(8080), gaps=(gap,)), RULE)
    assert [skip.rule for skip in found.skipped] == [RULE]


def test_the_addresses_of_a_wildcard_listener_are_one_server() -> None:
    found = finding(
        Idling(HERE, 8080, ends(2), (3.0,), 1.1), Idling("10.0.0.2", 8080, ends(2)[1:], (), 1.9)
    )
    assert found.evidence["idle_closes"] == 3
    assert found.evidence["idle_closes_by_clients"] == 1
    assert found.evidence["idle_open_seconds"] == 1.9


def owned(name: str) -> dict[int, tuple[Owner, ...]]:
    """Return a process as the owner of the listener."""
    return {7: (Owner(5, name, "www"),)}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        (
            "nginx",
            "nginx's keepalive_timeout, 75 s as shipped, for example keepalive_timeout 120s;",
        ),
        ("node", "server.keepAliveTimeout, 5.0 s as shipped (since 8.0.0)"),
        ("gunicorn", "keepalive, 2.0 s as shipped (worker classes other than sync)"),
        ("uvicorn", "--timeout-keep-alive, 5.0 s as shipped"),
        ("apache2", "KeepAliveTimeout, 5.0 s as shipped"),
        ("haproxy", "HAProxy's timeout http-keep-alive, for example timeout http-keep-alive 60s"),
        ("unheard-of", "its keep-alive setting, to 65 s or more behind a balancer with 60 s"),
    ],
)
def test_the_servers_setting_is_named(name: str, setting: str) -> None:
    found = finding(Idling(HERE, 8080, ends(5)), owners=owned(name))
    assert setting in found.advice[0].how
    assert isinstance(found.subject, ListenerSubject)
    assert [owner.name for owner in found.subject.processes] == [name]


def test_the_clients_setting_is_named_where_the_client_is_known() -> None:
    found = finding(Idling(HERE, 8080, ends(5, client="nginx")))
    assert found.advice[1].how.startswith("nginx's keepalive_timeout (upstream), 60 s as shipped")


def test_else_those_that_keep_connections_longer_are() -> None:
    how = finding(Idling(HERE, 8080, ends(5, 60.0))).advice[1].how
    assert "AWS Application Load Balancer's idle_timeout.timeout_seconds, 60 s as shipped" in how
    # 90 s at the server are longer than what a balancer keeps.
    assert "AWS" not in finding(Idling(HERE, 8080, ends(5, 90.0))).advice[1].how


def test_the_next_command_shows_that_no_request_is_lost_any_more() -> None:
    verify = finding(Idling(HERE, 8080, ends(5))).advice[0].verify
    assert verify.endswith("twdiag trace --port 8080 --for 60s")


def test_the_lost_requests_of_a_real_pool_are_found(played: dict[str, Played]) -> None:
    (found,) = played["keep-alive-race"].report.findings
    evidence = found.evidence
    timeout, lost_requests = evidence["idle_timeout_seconds"], evidence["lost_requests"]
    assert isinstance(timeout, float)
    assert isinstance(lost_requests, int)
    # An announcement comes when the FIN is acknowledged, which may take 40 ms.
    assert 0.59 <= timeout <= 0.8
    assert lost_requests >= 1
    assert found.evidence["used_again"] or found.evidence["lost_requests"]


def test_a_pool_in_order_is_watched_and_quiet(played: dict[str, Played]) -> None:
    play = played["keep-alive-in-order"]
    assert play.report.findings == ()
    watched = play.snapshot.watched
    assert watched is not None
    (idling,) = [one for one in watched.idling if one.local_port == 8080]
    assert idling.ends == ()
    assert len(idling.by_peers) >= 3


def test_each_lost_request_needs_a_limit_of_closes() -> None:
    snapshot = snapshot_of(
        listening(8080), watched=Watched(9.0, (Idling(HERE, 8080, lost(1, 3)),), True)
    )
    assert only_finding(snapshot, RULE).severity is Severity.WARNING
