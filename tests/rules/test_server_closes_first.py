"""A server that closes first keeps the TIME_WAITs, and is named with what it fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.made import (
    HERE,
    SYSCTLS,
    closed_first,
    found,
    listening,
    only_finding,
    orphans,
    report_of,
    served,
    snapshot_of,
    time_wait,
)
from twdiag.model.findings import ListenerSubject, Severity
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import TIMER_TIME_WAIT, Socket
from twdiag.tcp import State

if TYPE_CHECKING:
    from tests.conftest import Played

RULE = "server-closes-first"


def test_many_server_side_time_waits_are_only_a_notice() -> None:
    snapshot = snapshot_of(listening(443), *closed_first(5000))
    assert found(snapshot) == {RULE: Severity.NOTICE}
    evidence = only_finding(snapshot).evidence
    assert evidence["time_wait"] == 5000
    assert evidence["table_ratio"] == 0.0381
    assert evidence["limit"] == 131072


def test_the_first_advice_is_to_see_whether_the_clients_asked_for_it() -> None:
    first = only_finding(snapshot_of(listening(443), *closed_first(5000))).advice[0]
    assert first.do == "See whether the clients ask it to close"
    assert 'HTTP/1.0 or "Connection: close"' in first.how


def test_it_is_checked_where_the_rows_are() -> None:
    for rows, state in ((closed_first(30), "time-wait"), (orphans(30, left=55), "fin-wait-2")):
        first = only_finding(snapshot_of(listening(443), *rows), RULE).advice[0]
        assert f"state {state} sport = :443" in first.verify


def test_a_server_whose_clients_close_first_is_quiet() -> None:
    assert found(snapshot_of(*served(5000))) == {}


def test_a_few_are_nothing() -> None:
    assert found(snapshot_of(listening(443), *closed_first(19))) == {}
    assert found(snapshot_of(listening(443), *closed_first(20))) == {RULE: Severity.NOTICE}


def test_the_time_waits_of_this_hosts_clients_are_no_servers() -> None:
    assert RULE not in found(snapshot_of(listening(443), *time_wait(400, dport=443)))


def test_one_listener_that_fills_half_of_the_table_is_a_warning() -> None:
    sysctls = SYSCTLS | {"net.ipv4.tcp_max_tw_buckets": "5000"}
    for number, severity in ((2400, Severity.NOTICE), (2600, Severity.WARNING)):
        snapshot = snapshot_of(listening(443), *closed_first(number), sysctls=sysctls)
        assert found(snapshot)[RULE] == severity
    assert only_finding(snapshot, RULE).summary.endswith("that is 52 % of the TIME_WAIT table")


def test_sockets_that_still_wait_for_the_clients_fin_count() -> None:
    snapshot = snapshot_of(listening(443), *closed_first(15), *orphans(15, left=55))
    finding = only_finding(snapshot, RULE)
    assert (finding.evidence["time_wait"], finding.evidence["fin_wait2"]) == (15, 15)
    assert "15 TIME_WAITs and 15 sockets in FIN_WAIT" in finding.summary


def test_the_busiest_clients_are_named() -> None:
    rows = [
        Socket(State.TIME_WAIT, HERE, 443, address, 40000 + i, TIMER_TIME_WAIT, 30000)
        for address, number in (("10.9.0.1", 30), ("10.9.0.2", 20), ("10.9.0.3", 9))
        for i in range(number)
    ]
    evidence = only_finding(snapshot_of(listening(443), *rows)).evidence
    assert evidence["top_clients"] == ["10.9.0.1", "10.9.0.2", "10.9.0.3"]
    assert evidence["top_client_sockets"] == [30, 20, 9]


def test_the_most_specific_listener_gets_the_sockets() -> None:
    rows = [listening(443, inode=7), listening(443, HERE, inode=8, cookie=998), *closed_first(30)]
    snapshot = snapshot_of(*rows, owners={8: (Owner(5, "nginx", "www"),)})
    finding = only_finding(snapshot)
    assert finding.subject == ListenerSubject(HERE, 443, (Owner(5, "nginx", "www"),))
    assert finding.summary.startswith("nginx on 10.0.0.1:443 closes first: 30 TIME_WAITs")


def test_an_ipv6_wildcard_serves_ipv4_clients_unless_it_is_v6only() -> None:
    both = listening(443, "::")
    assert RULE in found(snapshot_of(both, *closed_first(30)))
    assert RULE not in found(snapshot_of(both._replace(v6only=True), *closed_first(30)))


def test_two_listeners_are_two_findings_the_worse_first() -> None:
    rows = [listening(443), listening(80, cookie=998), *closed_first(25), *closed_first(60, 80)]
    evidence = [f.evidence["time_wait"] for f in report_of(snapshot_of(*rows)).findings]
    assert evidence == [60, 25]


def test_no_client_is_named_twice_for_one_address() -> None:
    rows = [listening(443), *closed_first(400)]
    clients = only_finding(snapshot_of(*rows)).evidence["top_clients"]
    # All have one connection: any three of them, by name.
    assert len(set(clients)) == 3
    assert clients == sorted(clients)


def test_the_server_that_closes_first_is_named(played: dict[str, Played]) -> None:
    play = played["server-closes-first"]
    subject = play.report.findings[0].subject
    assert isinstance(subject, ListenerSubject)
    assert [owner.pid for owner in subject.processes] == [play.pids["server"]]
    assert subject.port == 8080


def test_the_history_matches_a_known_closing_schedule_within_a_second(
    played: dict[str, Played],
) -> None:
    play = played["closing-schedule"]
    closes = play.notes["closes"]
    assert isinstance(closes, list)
    history = play.report.findings[0].evidence["closes_per_second_history"]
    assert isinstance(history, list)
    assert sum(int(number) for number in history) == len(closes)
    ages = sorted(play.snapshot.taken_at - wall for _, wall in closes)
    seen = sorted(59 - i for i, number in enumerate(history) for _ in range(int(number)))
    pairs = list(zip(ages, seen, strict=True))
    assert all(second - 2 <= age <= second + 3 for age, second in pairs)
    # On a busy machine a program may have to wait between a close and the note of its moment.
    late = [pair for pair in pairs if not pair[1] - 1 <= pair[0] <= pair[1] + 2]
    assert len(late) <= len(pairs) // 10


def test_where_the_server_was_not_seen_a_trace_names_it() -> None:
    rows = [listening(443, inode=7), *closed_first(30)]
    how = "as root, watch them close: twdiag trace --port 443 --for 10s"
    assert how in [advice.how for advice in only_finding(snapshot_of(*rows)).advice]
    named = snapshot_of(*rows, owners={7: (Owner(5, "nginx", "www"),)})
    assert not [advice for advice in only_finding(named).advice if "twdiag trace" in advice.how]
