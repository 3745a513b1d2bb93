"""Left-over sockets that keep a stopped server from coming back."""

from __future__ import annotations

import pytest

from tests.made import HERE, SYSCTLS, found, listening, only_finding, report_of, snapshot_of
from twdiag.model.findings import PortSubject, Severity
from twdiag.model.sockets import TIMER_TIME_WAIT, Socket
from twdiag.tcp import State

RULE = "restart-blocked"


def left(n: int, port: int = 8080, expires: int = 9000) -> list[Socket]:
    """Return TIME_WAITs of a server on a port, each of another client."""
    return [
        Socket(State.TIME_WAIT, HERE, port, f"10.1.0.{i}", 40000 + i, TIMER_TIME_WAIT, expires)
        for i in range(n)
    ]


def test_a_stopped_server_is_told_when_it_can_come_back() -> None:
    snapshot = snapshot_of(*left(10), *left(3, expires=30_000))
    assert found(snapshot) == {RULE: Severity.NOTICE}
    finding = only_finding(snapshot)
    assert finding.subject == PortSubject(8080)
    evidence = finding.evidence
    # Who closed first is not known: there is no listener to tell it by.
    assert {"closed_by_servers", "closed_by_clients", "by_servers", "by_clients"}.isdisjoint(
        evidence
    )
    assert (evidence["sockets"], evidence["addresses"]) == (13, [HERE])
    assert (evidence["states"], evidence["state_sockets"]) == (["TIME_WAIT"], [13])
    # The newest has 30 s left, and the timer wheel is up to four seconds late.
    free = evidence["seconds_until_free"]
    assert isinstance(free, float)
    assert free.is_integer()
    assert 33 <= free <= 35


def test_only_a_peer_knows_when_other_states_end() -> None:
    rows = [*left(9), Socket(State.LAST_ACK, HERE, 8080, "10.1.0.50", 41000)]
    finding = only_finding(snapshot_of(*rows))
    assert finding.evidence["seconds_until_free"] is None
    assert finding.evidence["states"] == ["TIME_WAIT", "LAST_ACK"]
    assert "their peers have to close" in finding.advice[1].how


def test_a_server_that_listens_again_is_quiet() -> None:
    assert RULE not in found(snapshot_of(listening(8080), *left(60)))


def test_a_listener_on_another_address_does_not_take_them() -> None:
    elsewhere = Socket(State.LISTEN, "10.0.0.77", 8080, "0.0.0.0", 0)
    finding = only_finding(snapshot_of(elsewhere, *left(10)))
    assert (finding.rule, finding.subject) == (RULE, PortSubject(8080))
    assert finding.evidence["addresses"] == [HERE]
    assert found(snapshot_of(elsewhere._replace(local_address=HERE), *left(10))) == {}


def test_a_listener_of_ipv4_alone_does_not_take_those_of_ipv6() -> None:
    ipv4 = Socket(State.LISTEN, "0.0.0.0", 8080, "0.0.0.0", 0)
    rows = [
        row._replace(local_address=f"2001:db8::{1 + row.remote_port % 2}", remote_address="::9")
        for row in left(10)
    ]
    finding = only_finding(snapshot_of(ipv4, *rows))
    assert finding.summary.startswith("bind() to [::]:8080 fails")
    dual = ipv4._replace(local_address="::", remote_address="::")
    assert found(snapshot_of(dual, *rows)) == {}


def test_a_few_remote_ports_are_no_server() -> None:
    assert found(snapshot_of(*left(2))) == {}


@pytest.mark.parametrize(
    "rows",
    [
        [(700 + i, "10.0.0.2", 2049) for i in range(50)],
        [(801, "10.0.0.2", 2049), (801, "10.0.0.3", 20048), (801, "10.0.0.3", 111)],
        [(20, f"10.1.0.{i}", 40000 + i) for i in range(30)],
        [(30000 + i % 10, f"10.1.0.{i}", 40000 + i) for i in range(90)],
    ],
    ids=["nfs", "mount", "active ftp", "passive ftp"],
)
def test_protocols_with_ports_of_their_own_block_no_restart(
    rows: list[tuple[int, str, int]],
) -> None:
    waits = [Socket(State.TIME_WAIT, HERE, own, to, at, 3, 9000) for own, to, at in rows]
    assert found(snapshot_of(*waits)) == {}


def test_a_stopped_service_inside_a_wide_range_is_still_seen() -> None:
    sysctls = SYSCTLS | {"net.ipv4.ip_local_port_range": "1024 65535"}
    assert found(snapshot_of(*left(60), sysctls=sysctls)) == {RULE: Severity.NOTICE}
    assert found(snapshot_of(*left(19), sysctls=sysctls)) == {}


def test_up_to_three_services_are_told_and_more_are_a_protocol() -> None:
    rows = [s for port in (80, 443, 8080) for s in left(9, port)]
    subjects = [f.subject for f in report_of(snapshot_of(*rows)).findings]
    assert subjects == [PortSubject(80), PortSubject(443), PortSubject(8080)]
    assert found(snapshot_of(*rows, *left(9, 9090))) == {}
