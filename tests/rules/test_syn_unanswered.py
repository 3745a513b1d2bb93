"""Connection attempts that get no answer, to one destination or to everywhere."""

from __future__ import annotations

from tests.made import established, found, held, only_finding, report_of, snapshot_of, syn_sent
from twdiag.model.findings import DestinationSubject, HostSubject, Severity

RULE = "syn-unanswered"


def test_a_destination_that_does_not_answer_is_a_notice() -> None:
    snapshot = snapshot_of(*syn_sent(9), owners=held(9, 20, 1024))
    assert found(snapshot) == {RULE: Severity.NOTICE}
    finding = only_finding(snapshot)
    assert finding.subject == DestinationSubject(None, "10.3.0.1", 80)
    evidence = finding.evidence
    assert (evidence["syn_sent"], evidence["retransmissions"]) == (9, 3)
    assert evidence["processes"] == ["java"]
    assert finding.summary.endswith("9 connection attempts by java")


def test_where_nothing_gets_through_the_firewalls_are_looked_at() -> None:
    advice = only_finding(snapshot_of(*syn_sent(9))).advice
    assert "FORWARD chain" in next(a.how for a in advice if "firewall" in a.do)


def test_syns_in_flight_are_no_problem() -> None:
    assert found(snapshot_of(*syn_sent(90, retrans=0))) == {}


def test_a_few_attempts_are_no_problem() -> None:
    assert found(snapshot_of(*syn_sent(4))) == {}


def test_each_silent_destination_is_a_finding() -> None:
    rows = [*syn_sent(9), *(s._replace(remote_port=81) for s in syn_sent(15)[9:])]
    counts = [f.evidence["syn_sent"] for f in report_of(snapshot_of(*rows)).findings]
    assert counts == [9, 6]


def test_attempts_to_everywhere_are_one_finding() -> None:
    rows = [
        s._replace(remote_address=f"10.4.{i // 200}.{i % 200}")
        for i, s in enumerate(syn_sent(400, dport=443))
    ]
    finding = only_finding(snapshot_of(*rows))
    assert (finding.rule, finding.evidence["destinations"]) == (RULE, 400)
    assert finding.subject == HostSubject()
    assert finding.evidence["syn_sent"] == 400


def test_many_targets_are_told_with_the_program_that_calls_them() -> None:
    rows = [s._replace(remote_address=f"10.4.0.{i}") for i, s in enumerate(syn_sent(60))]
    finding = only_finding(snapshot_of(*rows, owners=held(60, 70, 1024)))
    assert finding.summary == "60 connection attempts by java to 60 destinations get no answer"
    assert [advice.do[:3] for advice in finding.advice] == ["See", "Loo"]
    reaching = only_finding(snapshot_of(*rows, *established(3, port=33_000)))
    assert "hosts that are gone" in reaching.advice[0].how


def test_where_other_connections_are_open_no_firewall_is_to_blame() -> None:
    others = established(3, port=33_000, to="10.3.0.1", dport=80)
    elsewhere = established(3, port=34_000, to="10.3.0.1", dport=81)
    finding = only_finding(snapshot_of(*syn_sent(9), *others, *elsewhere))
    assert finding.summary.endswith("9 connection attempts; 3 connections to it are open")
    assert (finding.evidence["alive"], "only some" in finding.advice[0].do) == (3, True)
    assert not any("firewall" in advice.do for advice in finding.advice)
    assert "firewall" not in finding.advice[0].do
    alone = only_finding(snapshot_of(*syn_sent(9), *elsewhere))
    assert alone.evidence["alive"] == 0
    assert alone.advice[0].do == "Find out who drops the SYN"


def test_one_attempt_that_hangs_is_told_where_the_client_has_few() -> None:
    hanging = syn_sent(1, retrans=5)
    assert found(snapshot_of(*hanging)) == {RULE: Severity.NOTICE}
    finding = only_finding(snapshot_of(*hanging, *established(15, port=33_000)))
    assert finding.summary == "10.3.0.1:80 does not answer 1 connection attempt"
    assert found(snapshot_of(*syn_sent(1, retrans=4))) == {}


def test_a_crawler_always_meets_a_host_that_is_gone() -> None:
    rows = [s._replace(remote_address=f"10.4.0.{i}") for i, s in enumerate(syn_sent(30, retrans=6))]
    assert found(snapshot_of(*rows, *established(700, port=42_000))) == {}
