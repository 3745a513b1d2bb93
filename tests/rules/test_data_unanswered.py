"""Data that nobody acknowledges: a dead peer, vanished clients, and the usual losses."""

from __future__ import annotations

import io

import pytest

from tests.made import (
    HERE,
    client,
    established,
    found,
    only_finding,
    report_of,
    served,
    snapshot_of,
)
from twdiag.model.findings import AddressSubject, PortSubject, Severity
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import TIMER_RETRANSMIT, TIMER_ZERO_WINDOW, Socket
from twdiag.render.pieces import Detail, Look
from twdiag.render.text import render_text
from twdiag.tcp import State

RULE = "data-unanswered"
DEAD = "10.9.0.9"


def to_dead(n: int, *, retrans: int = 7, to: str = DEAD) -> list[Socket]:
    """Return connections of a client whose data was sent again so often."""
    rows = established(n, port=40001, to=to, dport=6379)
    return [s._replace(timer=TIMER_RETRANSMIT, retrans=retrans, send_q=6) for s in rows]


def from_dead(n: int, *, clients: int = 40) -> list[Socket]:
    """Return connections of the server on 443 whose clients acknowledge nothing any more."""
    return [
        Socket(
            State.ESTABLISHED,
            HERE,
            443,
            client(i % clients),
            61_000 + i // clients,
            TIMER_RETRANSMIT,
            9000,
            8,
            send_q=1,
            inode=90_000 + i,
        )
        for i in range(n)
    ]


def test_a_dead_peer_is_a_warning_where_it_is_a_good_part_of_what_is_open() -> None:
    others = established(60, port=42_000)
    assert found(snapshot_of(*to_dead(6))) == {RULE: Severity.WARNING}
    assert found(snapshot_of(*to_dead(6), *others)) == {RULE: Severity.NOTICE}


def test_one_dead_connection_is_told_where_the_client_has_few() -> None:
    assert found(snapshot_of(*to_dead(1))) == {RULE: Severity.NOTICE}
    assert found(snapshot_of(*to_dead(1), *established(15, port=42_000))) == {RULE: Severity.NOTICE}
    assert found(snapshot_of(*to_dead(1), *established(40, port=42_000))) == {}


def test_dead_hosts_are_normal_for_a_crawler() -> None:
    alive = [
        s._replace(remote_address=client(i))
        for i, s in enumerate(established(900, port=33_000, dport=443))
    ]
    dead = [
        s._replace(remote_address=client(5_000 + i), local_port=50_001 + 2 * i)
        for i, s in enumerate(to_dead(40))
    ]
    assert found(snapshot_of(*alive, *dead)) == {}


def test_the_usual_losses_of_a_busy_peer_are_quiet() -> None:
    alive = established(60, port=42_000, to=DEAD, dport=6379)
    assert found(snapshot_of(*to_dead(6), *alive)) == {}
    finding = only_finding(snapshot_of(*to_dead(6), *alive[:10]))
    assert finding.evidence["alive"] == 10
    assert finding.summary.endswith("; 10 others to it are answered")


@pytest.mark.parametrize("retrans", [0, 2, 3, 5])
def test_data_that_was_sent_again_a_few_times_is_no_silence(retrans: int) -> None:
    assert found(snapshot_of(*to_dead(20, retrans=retrans))) == {}


def test_a_peer_without_room_is_not_silent() -> None:
    rows = [s._replace(timer=TIMER_ZERO_WINDOW) for s in to_dead(20)]
    assert found(snapshot_of(*rows)) == {}


@pytest.mark.parametrize(
    ("gone", "clients", "alive", "severity"),
    [
        (19, 19, 0, None),
        (30, 30, 3000, None),
        (30, 30, 300, Severity.NOTICE),
        (30, 1, 0, Severity.NOTICE),
        (300, 200, 100, Severity.WARNING),
    ],
)
def test_clients_that_vanish_are_normal_until_they_are_a_good_share(
    gone: int, clients: int, alive: int, severity: Severity | None
) -> None:
    snapshot = snapshot_of(*served(alive), *from_dead(gone, clients=clients))
    assert found(snapshot).get(RULE) == severity


def test_vanished_clients_are_told_of_the_port() -> None:
    finding = only_finding(snapshot_of(*served(300), *from_dead(30, clients=30)), RULE)
    assert finding.subject == PortSubject(443)
    assert "30 clients of local port 443 do not acknowledge the data of 30 connections, 9 %" in (
        finding.summary
    )


def test_the_finding_names_the_peer_the_program_and_how_long() -> None:
    rows = [*to_dead(5), *to_dead(6, retrans=9)[5:]]
    app = Owner(7, "app", "app", 0, None, None)
    owners = {row.inode: (app,) for row in rows}
    finding = only_finding(snapshot_of(*rows, owners=owners))
    assert finding.subject == AddressSubject(DEAD)
    assert finding.summary == (
        f"{DEAD} does not acknowledge the data of 6 connections of app: sent again 7 to 9 times"
    )
    evidence = finding.evidence
    assert (evidence["unanswered"], evidence["retransmissions"], evidence["send_q"]) == (6, 9, 36)
    assert finding.advice[0].how.endswith(f"nc -vz -w 3 {DEAD} 6379")


def test_connections_that_wait_for_accept_are_not_taken_for_silent_ones() -> None:
    queued = [s._replace(inode=0, timer=0, retrans=0, send_q=0) for s in from_dead(30)]
    assert RULE not in found(snapshot_of(*served(30), *queued))


def test_what_comes_next_is_the_end_of_the_retries_and_no_close_is_drawn() -> None:
    out = io.StringIO()
    render_text(report_of(snapshot_of(*to_dead(6)), RULE), out, Look(detail=Detail.FULL))
    text = out.getvalue()
    assert "ESTABLISHED; next: the peer acknowledges the data, or this host's kernel" in text
    assert "FIN" not in text
