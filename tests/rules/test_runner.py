"""Running the rules: what is selected, whose owners are wanted, what is skipped and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.made import (
    LISTEN_8080,
    aged,
    analyze,
    answered_by_keepalive,
    close_wait,
    closed_first,
    established,
    found,
    held,
    listening,
    report_of,
    served,
    snapshot_of,
    time_wait,
    view_of,
)
from twdiag import rules
from twdiag.analysis import view
from twdiag.errors import UsageError
from twdiag.model.findings import Severity
from twdiag.model.snapshot import Gap, Owner
from twdiag.rules import runner
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.rules.rule import Rule


def test_an_empty_host_gives_no_finding_and_skips_nothing() -> None:
    report = report_of(snapshot_of())
    assert (report.findings, report.skipped, report.status) == ((), (), Severity.OK)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_a_rule_whose_need_was_not_seen_is_skipped_with_the_reason(rule: Rule[Any]) -> None:
    for need in rule.needs:
        gaps = tuple(Gap(part, f"no {part}", "look") for part in need.split("|"))
        report = analyze(snapshot_of(gaps=gaps), rules.DEFAULTS, [rule])
        assert [skip.rule for skip in report.skipped] == [rule.name]
        assert report.skipped[0].reason.startswith("no ")
        assert report.skipped[0].how == "look"


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_what_was_seen_in_part_is_judged(rule: Rule[Any]) -> None:
    needs = [part for need in rule.needs for part in need.split("|")]
    gaps = tuple(Gap(need, "some of it", "look", partial=True) for need in needs)
    assert analyze(snapshot_of(gaps=gaps), rules.DEFAULTS, [rule]).skipped == ()


def test_an_earlier_sample_stands_in_for_the_ages_unless_it_saw_no_sockets() -> None:
    gap = Gap("tcp-info", "old kernel", "")
    blind = snapshot_of(taken_at=999_990.0, gaps=(Gap("sockets", "refused", ""),))
    seeing = snapshot_of(taken_at=999_990.0)
    for earlier, skipped in ((None, True), (blind, True), (seeing, False)):
        report = report_of(snapshot_of(gaps=(gap,), earlier=earlier), "close-wait-leak")
        assert bool(report.skipped) is skipped


def test_a_busy_proxy_with_pools_is_quiet() -> None:
    rows = served(8000)
    for backend in range(8):  # connect() takes even ports first, and shares them
        rows += established(1000, to=f"10.2.0.{backend}", dport=8080)
    report = report_of(snapshot_of(*rows))
    assert report.findings == ()
    assert report.states == {State.ESTABLISHED: 16000, State.LISTEN: 1}


def test_the_worst_comes_first_and_equals_stand_in_the_order_of_the_rules() -> None:
    rows = [*served(0), *closed_first(100), *time_wait(26000)]
    severities = [(f.rule, f.severity) for f in report_of(snapshot_of(*rows)).findings]
    assert severities == [
        ("ports-running-out", Severity.CRITICAL),
        ("connection-churn", Severity.NOTICE),
        ("server-closes-first", Severity.NOTICE),
    ]


def test_every_finding_says_why_what_not_to_do_and_where() -> None:
    (finding,) = report_of(snapshot_of(*served(0), *closed_first(100), netns="blue")).findings
    assert finding.rule == "server-closes-first"
    assert finding.why.startswith("A server's TIME_WAIT costs")
    assert "Do not set tcp_tw_reuse" in finding.do_not[1]
    assert finding.netns == "blue"


def test_owners_are_wanted_of_what_will_be_told_and_of_nothing_else() -> None:
    def wanted(*rows: Any) -> set[int]:
        return runner.select(view_of(*rows), rules.DEFAULTS, rules.RULES).inodes

    assert wanted(*served(100)) == set()
    assert wanted(LISTEN_8080, *aged(close_wait(4), 3600)) == set(range(100, 104))
    assert wanted(LISTEN_8080, *aged(close_wait(4), 1)) == set()
    assert wanted(LISTEN_8080, *aged(close_wait(9), 3600)) == set(range(100, 109))
    assert wanted(LISTEN_8080, *aged(close_wait(9, inode=0), 60)) == {7}
    assert wanted(listening(443), *closed_first(20)) == {7}
    assert wanted(listening(443), *closed_first(19)) == set()


def test_owners_found_later_are_named_without_selecting_again() -> None:
    view = view_of(LISTEN_8080, *aged(close_wait(9), 60))
    selection = runner.select(view, rules.DEFAULTS, rules.RULES)
    gap = Gap("owners", "one process hides", "", partial=True)
    report = runner.tell(selection, view.with_owners(held(9, 20, 1024), [gap]))
    (finding,) = report.findings
    assert finding.summary.startswith("java (pid 812) holds 9 CLOSE_WAITs")
    assert gap in report.gaps


def test_keepalive_hides_an_age_and_the_report_says_so() -> None:
    report = report_of(snapshot_of(LISTEN_8080, *answered_by_keepalive(close_wait(9))))
    assert report.findings == ()
    assert [gap.what for gap in report.gaps] == ["close-wait-age"]
    assert "--interval" in report.gaps[0].how
    few = report_of(snapshot_of(LISTEN_8080, *answered_by_keepalive(close_wait(4))))
    assert few.gaps == ()
    old = [s._replace(info=None) for s in close_wait(9)]
    assert [g.what for g in report_of(snapshot_of(LISTEN_8080, *old)).gaps] == ["close-wait-age"]


def test_the_facts_tell_who_closed_the_time_waits() -> None:
    rows = [
        *served(3),
        *closed_first(40),
        *time_wait(30),
        *closed_first(5, port=7000),  # nobody listens there any more
        *(s._replace(local_port=900 + i, remote_port=2049) for i, s in enumerate(time_wait(6))),
    ]
    facts = report_of(snapshot_of(*rows)).facts
    assert facts["time_wait"] == 81
    assert facts["time_wait_server_closed"] == 40
    assert facts["time_wait_client_closed"] == 36  # six of them from fixed ports, to a service
    assert facts["time_wait_unknown_closed"] == 5
    assert facts["sockets"] == 85
    assert facts["time_wait_limit"] == 131072
    assert (facts["busiest_destination"], facts["busiest_destination_used"]) == (
        "10.0.0.5 port 5432",
        30,
    )
    assert facts["ports"] == 28_232


def test_closes_of_each_second_are_told_unless_no_timers_were_seen() -> None:
    rows = [*time_wait(3, age=0.5), *time_wait(2, port=40000, age=59.5)]
    closes = report_of(snapshot_of(*rows)).closes
    assert closes is not None
    assert (closes[-1], closes[0], sum(closes)) == (3, 2, 5)
    assert report_of(snapshot_of(gaps=(Gap("timers", "psutil", ""),))).closes is None


def test_unknown_rules_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'close-wait-leak'"):
        rules.choose(["close-wait-leek"])
    with pytest.raises(UsageError, match="did you mean 'fd-limit-near'"):
        rules.choose((), ["fd-limit-neer"])


def test_rules_are_chosen_and_ignored_by_name() -> None:
    assert [rule.name for rule in rules.choose(["fd-limit-near"])] == ["fd-limit-near"]
    assert "fd-limit-near" not in [rule.name for rule in rules.choose((), ["fd-limit-near"])]
    assert rules.choose() == rules.RULES
    assert rules.choose(["fd-limit-near"], ["fd-limit-near"]) == ()


def test_limits_move_a_threshold() -> None:
    snapshot = snapshot_of(*time_wait(400))
    assert found(snapshot) == {}
    assert found(snapshot, connection_churn=400) == {"connection-churn": Severity.NOTICE}


def test_each_rule_selects_once_and_what_rules_share_is_worked_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: Counter[str] = Counter()

    def counting(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **words: Any) -> Any:
            calls[name] += 1
            return work(*args, **words)

        return counted

    monkeypatch.setattr(view, "close_waits", counting("close_waits", view.close_waits))
    monkeypatch.setattr(view, "port_uses", counting("port_uses", view.port_uses))
    for rule in rules.RULES:
        monkeypatch.setattr(rule, "select", counting(rule.name, rule.select))
    snapshot = snapshot_of(*time_wait(600), *aged(close_wait(70), 120), owners=held(70, 90, 1024))
    report = analyze(snapshot, rules.DEFAULTS)
    assert len(report.findings) >= 2
    assert set(calls.values()) == {1}
    assert calls.keys() >= {"close_waits", "port_uses"}


def test_many_leaking_processes_cost_as_much_as_their_sockets() -> None:
    class Counted(dict[int, tuple[Owner, ...]]):
        asked = 0

        def get(self, key: int, default: Any = None) -> Any:
            Counted.asked += 1
            return super().get(key, default)

    processes, each = 200, 10
    total = processes * each
    owners = Counted(
        {100 + i: (Owner(1000 + i // each, "php", "app", 30, 1024),) for i in range(total)}
    )
    snapshot = snapshot_of(*aged(close_wait(total), 120), owners=owners)
    report = report_of(snapshot, "close-wait-leak", "close-wait-unread")
    assert len(report.findings) == processes
    assert {len(finding.inodes) for finding in report.findings} == {each}
    assert Counted.asked < 20 * total


def test_what_nobody_asked_for_want_of_time_is_a_gap() -> None:
    from twdiag.engine.causes import with_causes

    total = 30 * 10
    owners = {100 + i: (Owner((1 << 22) + i // 10, "php", "app", 30, 1024),) for i in range(total)}
    snapshot = snapshot_of(*aged(close_wait(total), 120), owners=owners)
    report = report_of(snapshot, "close-wait-leak")
    told = with_causes(report, view.View(snapshot))
    assert len(told.findings) == 30
    (gap,) = (gap for gap in told.gaps if "10 more findings" in gap.why)
    assert (gap.what, gap.partial) == ("waits", True)
