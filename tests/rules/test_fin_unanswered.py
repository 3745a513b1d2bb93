"""FINs that nobody acknowledges: a silent destination, vanished clients, a full window."""

from __future__ import annotations

import pytest

from tests.made import HERE, found, only_finding, served, snapshot_of, unanswered
from twdiag.model.findings import AddressSubject, HostSubject, PortSubject, Severity
from twdiag.model.sockets import TIMER_RETRANSMIT, TIMER_ZERO_WINDOW, Socket
from twdiag.tcp import State

RULE = "fin-unanswered"


def to_dead(n: int) -> list[Socket]:
    """Return FIN_WAIT1s of a client to a destination that is gone."""
    return [
        Socket(
            State.FIN_WAIT1, HERE, 40001 + 2 * i, "10.9.0.9", 443, TIMER_RETRANSMIT, 900, 4, 0, 1
        )
        for i in range(n)
    ]


def test_one_dead_destination_of_many_is_a_notice() -> None:
    healthy = [
        Socket(State.ESTABLISHED, HERE, 42000 + 2 * i, "10.9.0.1", 443, inode=9)
        for i in range(800)
    ]
    assert found(snapshot_of(*to_dead(6))) == {RULE: Severity.WARNING}
    assert found(snapshot_of(*to_dead(6), *healthy)) == {RULE: Severity.NOTICE}


def test_a_few_and_a_busy_peers_usual_losses_are_quiet() -> None:
    assert found(snapshot_of(*to_dead(4))) == {}
    alive = [
        Socket(State.ESTABLISHED, HERE, 42000 + 2 * i, "10.9.0.9", 443, inode=9) for i in range(60)
    ]
    assert found(snapshot_of(*to_dead(6), *alive)) == {}


def test_the_evidence_counts_states_retries_and_bytes() -> None:
    rows = [*to_dead(6), *(s._replace(state=State.LAST_ACK, inode=5) for s in to_dead(8)[6:])]
    finding = only_finding(snapshot_of(*rows))
    assert finding.subject == AddressSubject("10.9.0.9")
    evidence = finding.evidence
    assert (evidence["unanswered"], evidence["peers"], evidence["zero_window"]) == (8, 1, 0)
    assert (evidence["retransmissions"], evidence["send_q"]) == (4, 8)
    assert (evidence["states"], evidence["state_sockets"]) == (["FIN_WAIT1", "LAST_ACK"], [6, 2])
    assert evidence["orphans"] == 6
    assert finding.summary.endswith("6 in FIN_WAIT1, 2 in LAST_ACK")


@pytest.mark.parametrize(
    ("gone", "clients", "alive", "severity"),
    [
        (6, 1, 0, None),
        (6, 1, 3000, None),
        (30, 1, 0, Severity.NOTICE),
        (30, 30, 3000, None),
        (30, 30, 300, Severity.NOTICE),
        (3000, 200, 100, Severity.WARNING),
    ],
)
def test_clients_that_vanish_are_normal_until_they_are_a_good_share(
    gone: int, clients: int, alive: int, severity: Severity | None
) -> None:
    snapshot = snapshot_of(*served(alive), *unanswered(gone, clients=clients))
    assert found(snapshot, server_closes_first=99999).get(RULE) == severity


def test_vanished_clients_are_told_of_the_port() -> None:
    finding = only_finding(snapshot_of(*served(300), *unanswered(30, clients=30)), RULE)
    assert finding.subject == PortSubject(443)
    assert "30 clients of local port 443 do not acknowledge 30 closes, 9 %" in finding.summary


def test_a_slow_reader_is_no_silent_peer() -> None:
    rows = [
        Socket(
            State.FIN_WAIT1, HERE, 443, "10.3.0.1", 50000 + i, TIMER_ZERO_WINDOW, 900, 1, 0, 9000
        )
        for i in range(9)
    ]
    snapshot = snapshot_of(*served(9), *rows)
    assert found(snapshot) == {RULE: Severity.NOTICE}
    assert only_finding(snapshot).evidence["zero_window"] == 9
    assert found(snapshot_of(*served(9), *rows[:4])) == {}


def test_fins_in_flight_are_no_problem() -> None:
    rows = [
        Socket(
            State.LAST_ACK, HERE, 40000 + i, "10.3.0.1", 80, TIMER_RETRANSMIT, 200, 0, send_q=1
        )
        for i in range(200)
    ]
    assert found(snapshot_of(*rows)) == {}


@pytest.mark.parametrize(
    ("orphans", "severity"),
    [(45000, None), (46000, Severity.WARNING), (60000, Severity.CRITICAL)],
)
def test_orphans_near_their_limit_are_host_wide(orphans: int, severity: Severity | None) -> None:
    snapshot = snapshot_of(sockstat={"TCP.tw": 0, "TCP.orphan": orphans})
    assert found(snapshot) == ({} if severity is None else {RULE: severity})
    if severity:
        finding = only_finding(snapshot)
        assert finding.subject == HostSubject()
        assert (finding.evidence["orphans"], finding.evidence["limit"]) == (orphans, 65536)
