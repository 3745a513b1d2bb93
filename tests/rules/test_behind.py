"""`twdiag sockets --rule` lists exactly the rows that a rule's finding counts, on real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.made import (
    aged,
    close_wait,
    held,
    limits_of,
    listening,
    only_finding,
    orphans,
    report_of,
    snapshot_of,
    syn_sent,
    time_wait,
    unanswered,
)
from twdiag import lab, rules
from twdiag.analysis.view import View
from twdiag.model import facts
from twdiag.model.findings import (
    Confidence,
    DestinationSubject,
    Finding,
    HostSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
    Severity,
)
from twdiag.rules import runner
from twdiag.rules.behind import narrowed, these

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.conftest import Played
    from twdiag.model.findings import Subject
    from twdiag.model.snapshot import Snapshot
    from twdiag.model.sockets import Socket

ROWLESS: Final = {
    "conntrack-filling",
    "keep-alive-race",  # its connections have ended
    "misleading-sysctl",
    "snat-ports-running-out",
    "sockets-nobody-sees",
}
COUNTED: Final[Mapping[str, Callable[[Any], int]]] = {
    "ports-running-out": lambda e: e[facts.USED],
    "accept-queue-full": lambda e: e[facts.ACCEPT_QUEUE] + 1,  # the listener itself
    "fd-limit-near": lambda e: e[facts.ESTABLISHED] + e[facts.CLOSE_WAIT] + e[facts.OTHER_STATES],
    "close-wait-never-accepted": lambda e: e[facts.CLOSE_WAIT],
    "bound-ports-running-out": lambda e: e[facts.USED],
    "close-wait-leak": lambda e: e[facts.CLOSE_WAIT],
    "close-wait-unread": lambda e: e[facts.CLOSE_WAIT],
    "time-wait-table-filling": lambda e: e[facts.TIME_WAIT],
    "data-unanswered": lambda e: e[facts.UNANSWERED],
    "fin-unanswered": lambda e: e[facts.UNANSWERED],
    "peer-never-closes": lambda e: e[facts.FIN_WAIT2],
    "syn-unanswered": lambda e: e[facts.SYN_SENT],
    "restart-blocked": lambda e: e[facts.SOCKETS],
    "close-wait-idle-pool": lambda e: e[facts.CLOSE_WAIT],
    "time-wait-rising": lambda e: e[facts.TIME_WAIT],
    "connection-churn": lambda e: e[facts.TIME_WAIT],
    "server-closes-first": lambda e: e[facts.TIME_WAIT] + e[facts.FIN_WAIT1] + e[facts.FIN_WAIT2],
    "listener-in-ephemeral-range": lambda e: e[facts.LISTENERS],
    "idle-established-leak": lambda e: e[facts.IDLE],
}
"""How many rows the evidence of a rule's findings speaks of."""


def test_every_rule_says_which_rows_stand_behind_it() -> None:
    assert {rule.name for rule in rules.RULES if rule.rows is None} == ROWLESS
    assert {rule.name for rule in rules.RULES} == COUNTED.keys() | ROWLESS


@pytest.mark.parametrize("name", [s.name for s in lab.SCENARIOS if s.expects])
def test_the_rows_are_those_that_the_finding_counts(name: str, played: dict[str, Played]) -> None:
    play = played[name]
    findings: dict[str, list[Finding]] = {}
    for finding in play.report.findings:
        if finding.rule not in ROWLESS:
            findings.setdefault(finding.rule, []).append(finding)
    assert findings.keys() == play.listed.keys() - {""}
    for rule, told in findings.items():
        assert play.listed[rule], rule
        # A loaded machine may have had no time to tell descriptors apart; a gap says so then.
        if rule != "fd-limit-near" or all(facts.LOOKED in finding.evidence for finding in told):
            expected = sum(COUNTED[rule](finding.evidence) for finding in told)
            # What piles up goes on while its rows are read.
            more = 20 if rule == "idle-established-leak" else 0
            assert expected <= len(play.listed[rule]) <= expected + more, rule
        pids = {pid for finding in told for pid in finding.pids}
        if rule.startswith("close-wait") and pids:
            holders = {o.pid for row in play.listed[rule] for o in row.owners or ()}
            assert holders <= pids or rule == "close-wait-never-accepted"


@pytest.mark.parametrize("name", [scenario.name for scenario in lab.SCENARIOS])
def test_the_rules_that_stay_silent_list_nothing(name: str, played: dict[str, Played]) -> None:
    assert played[name].listed[""] == []


# By hand, where a live host would need minutes or luck.


def rows_behind(rule: str, snapshot: Snapshot, *sockets: Socket, **limits: Any) -> list[Socket]:
    """Return the sockets of a snapshot that stand behind what a rule finds there."""
    view = View(snapshot)
    selection = runner.select(view, limits_of(**limits), rules.choose([rule]))
    behind = runner.rows_behind(selection, view)
    return [one for one in sockets if any(rows.fits(one) for rows in behind)]


def test_a_holder_below_the_limit_is_not_listed_with_the_others() -> None:
    leaked = aged(close_wait(60), 100)
    few = [s._replace(inode=900 + n, uid=1) for n, s in enumerate(aged(close_wait(3), 100))]
    few = [s._replace(cookie=900 + n, remote_port=9) for n, s in enumerate(few)]
    sockets = (listening(8080), *leaked, *few)
    snapshot = snapshot_of(*sockets, owners=held(60, 100, 1000))
    found = rows_behind("close-wait-leak", snapshot, *sockets)
    assert found == leaked


def test_a_row_that_has_left_its_state_is_not_behind_the_finding_any_more() -> None:
    (one,) = close_wait(1)
    rows = these([one])
    assert rows.fits(one._replace(recv_q=9, info=None))
    assert not rows.fits(one._replace(state=type(one.state).LAST_ACK))
    assert not rows.fits(one._replace(cookie=2))


def test_only_what_goes_to_the_full_destination_is_listed() -> None:
    full, other = time_wait(27_000), time_wait(30, dport=80)
    served = [s._replace(local_port=443, remote_port=5432) for s in time_wait(5)]
    sockets = (listening(443), *full, *other, *served)
    found = rows_behind("ports-running-out", snapshot_of(*sockets), *sockets)
    assert found == full


def test_young_orphans_are_not_listed_with_the_old() -> None:
    old, young = orphans(30, left=40), orphans(30, left=59, port=8080)
    sockets = (listening(443), listening(8080), *old, *young)
    assert rows_behind("peer-never-closes", snapshot_of(*sockets), *sockets) == old


def test_attempts_that_were_not_repeated_are_no_silence() -> None:
    silent, new = syn_sent(6), syn_sent(6, retrans=0)
    new = [s._replace(local_port=s.local_port + 100, inode=s.inode + 100) for s in new]
    found = rows_behind("syn-unanswered", snapshot_of(*silent, *new), *silent, *new)
    assert found == silent


def test_all_orphans_are_listed_where_the_host_has_too_many() -> None:
    sockets = unanswered(4)
    snapshot = snapshot_of(*sockets, sockstat={"TCP.orphan": 65_000})
    assert rows_behind("fin-unanswered", snapshot, *sockets) == sockets
    assert rows_behind("fin-unanswered", snapshot_of(*sockets), *sockets) == []


def finding_of(rule: str, subject: Subject, pids: tuple[int, ...] = ()) -> Finding:
    return Finding(
        Severity.NOTICE, Confidence.OBSERVED, "something", subject, {}, (), rule=rule, pids=pids
    )


@pytest.mark.parametrize(
    ("subject", "options"),
    [
        (DestinationSubject(None, "2001:db8::1", 443), ["--peer", "[2001:db8::1]:443"]),
        (ListenerSubject("0.0.0.0", 8080), ["--port", "8080"]),
        (PortSubject(8080), ["--port", "8080"]),
        (ProcessSubject(812, "java", "app"), ["--process", "812"]),
        (ProcessSubject(None, "unseen process", "uid 33"), []),
        (HostSubject(), []),
    ],
)
def test_of_several_findings_of_a_rule_each_has_its_own_rows(
    subject: Subject, options: list[str]
) -> None:
    assert narrowed(finding_of("connection-churn", subject)) == options


def test_the_workers_of_a_program_are_listed_by_their_name() -> None:
    one = finding_of("close-wait-leak", ProcessSubject(7, "php-fpm: pool", "www"), (7, 8, 9))
    assert narrowed(one) == ["--process", "php-fpm: pool"]


def test_a_finding_that_is_alone_with_its_rule_needs_no_option() -> None:
    alone = only_finding(snapshot_of(*time_wait(600)))
    assert alone.rows_command == "twdiag sockets --rule connection-churn"
    both = report_of(snapshot_of(*time_wait(600), *time_wait(600, dport=443))).findings
    assert [f.rows_command for f in both] == [
        f"twdiag sockets --rule connection-churn --peer 10.0.0.5:{port}" for port in (443, 5432)
    ]
