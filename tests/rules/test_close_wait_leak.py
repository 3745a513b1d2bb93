"""Connections that a process never closed: whose, how many, how old."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.made import (
    LISTEN_8080,
    aged,
    answered_by_keepalive,
    close_wait,
    found,
    held,
    only_finding,
    report_of,
    snapshot_of,
)
from twdiag.model.findings import ProcessSubject, Severity
from twdiag.model.snapshot import Gap, Owner
from twdiag.wording import visible

if TYPE_CHECKING:
    from tests.conftest import Played

RULE = "close-wait-leak"


@pytest.mark.parametrize(
    ("number", "age", "limit", "severity"),
    [
        (4, 3600, 1024, None),
        (500, 3, 1024, None),
        (49, 3600, 1024, Severity.NOTICE),
        (50, 59, 1024, Severity.NOTICE),
        (50, 61, 1024, Severity.WARNING),
        (40, 20, 64, Severity.WARNING),
        (60, 20, 64, Severity.CRITICAL),
    ],
)
def test_a_leak_is_judged_by_number_age_and_descriptor_limit(
    number: int, age: float, limit: int, severity: Severity | None
) -> None:
    rows = aged(close_wait(number), age)
    snapshot = snapshot_of(LISTEN_8080, *rows, owners=held(number, number + 6, limit))
    assert found(snapshot).get(RULE) == severity


def test_the_evidence_tells_process_service_and_descriptors() -> None:
    rows = aged(close_wait(40), 20)
    finding = only_finding(snapshot_of(LISTEN_8080, *rows, owners=held(40, 46, 64)), RULE)
    assert finding.subject == ProcessSubject(812, "java", "app")
    evidence = finding.evidence
    assert (evidence["close_wait"], evidence["recv_q"]) == (40, 0)
    assert (evidence["age_seconds_min"], evidence["age_seconds_max"]) == (20.0, 20.0)
    assert (evidence["fds"], evidence["fd_limit"]) == (46, 64)
    assert (evidence["fd_ratio"], evidence["close_wait_fd_ratio"]) == (0.7188, 0.625)
    assert (evidence["service_ports"], evidence["uid"]) == ([8080], 33)
    assert (evidence["peers"], evidence["peer_sockets"]) == (["local port 8080"], [40])
    assert evidence["new_since_first_sample"] is None
    assert "62 % of its descriptor limit" in finding.summary


def test_leaks_of_two_processes_are_two_findings() -> None:
    owners = held(5, 20, 1024) | {
        100 + i: (Owner(900, "node", "app", 20, 1024),) for i in range(5, 12)
    }
    snapshot = snapshot_of(LISTEN_8080, *aged(close_wait(12), 60), owners=owners)
    assert [f.evidence["close_wait"] for f in report_of(snapshot).findings] == [7, 5]


def test_a_leak_spread_over_workers_is_one_leak() -> None:
    owners = {100 + i: (Owner(900 + i, "apache2", "www", 12, 1024, 800),) for i in range(100)}
    snapshot = snapshot_of(LISTEN_8080, *aged(close_wait(100), 3600), owners=owners)
    finding = only_finding(snapshot)
    assert finding.severity is Severity.WARNING
    assert finding.summary.startswith("apache2 (100 processes) holds 100 CLOSE_WAITs")


def test_two_services_of_one_name_are_two_programs() -> None:
    owners = {100 + i: (Owner(900 + i % 2, "java", "app", 60, 1024, 1),) for i in range(100)}
    snapshot = snapshot_of(LISTEN_8080, *aged(close_wait(100), 3600), owners=owners)
    findings = report_of(snapshot).findings
    assert [f.subject.pid for f in findings] == [900, 901]  # type: ignore[union-attr]
    assert [f.evidence["pids"] for f in findings] == [[900], [901]]


def test_a_worker_belongs_to_the_master_of_its_name() -> None:
    owners = {100: (Owner(900, "nginx", "www", 12, 1024, 1),)}
    owners |= {101 + i: (Owner(901 + i, "nginx", "www", 12, 1024, 900),) for i in range(9)}
    snapshot = snapshot_of(LISTEN_8080, *aged(close_wait(10), 3600), owners=owners)
    finding = only_finding(snapshot)
    assert finding.evidence["pids"] == list(range(900, 910))


@pytest.mark.parametrize(
    ("scripts", "programs"),
    [
        (("orders.py", "mails.py"), [[900], [901]]),
        (("app.py", "app.py"), [[900, 901]]),
        (("", ""), [[900, 901]]),  # multiprocessing starts its workers by code
    ],
)
def test_the_children_of_a_supervisor_are_one_program_if_they_run_the_same(
    scripts: tuple[str, str], programs: list[list[int]]
) -> None:
    owners = {
        100 + i: (Owner(900 + i % 2, "python3", "app", 60, 1024, 50, scripts[i % 2]),)
        for i in range(100)
    }
    snapshot = snapshot_of(LISTEN_8080, *aged(close_wait(100), 3600), owners=owners)
    findings = report_of(snapshot).findings
    assert [f.evidence["pids"] for f in findings] == programs


def test_a_worker_started_by_code_belongs_to_the_script_that_started_it() -> None:
    owners = {100: (Owner(900, "python3", "app", 12, 1024, 1, "app.py"),)}
    owners |= {101 + i: (Owner(901 + i, "python3", "app", 12, 1024, 900),) for i in range(9)}
    snapshot = snapshot_of(LISTEN_8080, *aged(close_wait(10), 3600), owners=owners)
    assert only_finding(snapshot).evidence["pids"] == list(range(900, 910))


def test_without_rights_a_leak_is_still_found_and_its_user_named() -> None:
    finding = only_finding(snapshot_of(LISTEN_8080, *aged(close_wait(5), 60)))
    assert finding.rule == RULE
    assert finding.subject == ProcessSubject(None, "unseen process", "uid 33")


def test_a_client_leaks_too() -> None:
    rows = aged(close_wait(9, server=False), 60)
    finding = only_finding(snapshot_of(*rows))
    assert finding.rule == RULE
    assert "to 10.0.0.5:5432 (9)" in finding.advice[0].how
    assert finding.evidence["service_ports"] == [5432]


def test_an_age_that_keepalive_hides_is_no_leak_for_sure() -> None:
    rows = answered_by_keepalive(close_wait(9))
    assert found(snapshot_of(LISTEN_8080, *rows)) == {}
    loud = [s._replace(timer=2) for s in aged(rows, 60)]
    assert found(snapshot_of(LISTEN_8080, *loud)) == {RULE: Severity.NOTICE}


def test_two_samples_give_an_age_where_one_gives_none() -> None:
    rows = [LISTEN_8080, *answered_by_keepalive(close_wait(9))]
    earlier = snapshot_of(*rows, taken_at=999_985.0)
    assert found(snapshot_of(*rows, earlier=earlier)) == {RULE: Severity.NOTICE}
    bare = [LISTEN_8080, *close_wait(9)]
    gaps = (Gap("tcp-info", "proc", ""),)
    assert found(snapshot_of(*bare, gaps=gaps, earlier=earlier)) == {RULE: Severity.NOTICE}
    assert found(snapshot_of(*bare, gaps=gaps)) == {}


def test_growth_since_the_first_sample_is_said() -> None:
    rows = close_wait(12)
    earlier = snapshot_of(LISTEN_8080, *rows[:5], taken_at=999_990.0)
    finding = only_finding(snapshot_of(LISTEN_8080, *aged(rows, 15), earlier=earlier))
    assert finding.evidence["new_since_first_sample"] == 7
    assert "7 of them new" in finding.summary


def test_a_leak_names_its_process_and_bounds_its_age(played: dict[str, Played]) -> None:
    play = played["close-wait-leak"]
    finding = play.report.findings[0]
    assert isinstance(finding.subject, ProcessSubject)
    assert finding.subject.pid == play.pids["leaky"]
    assert finding.evidence["recv_q"] == 0
    low, high = finding.evidence["age_seconds_min"], finding.evidence["age_seconds_max"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= high + 0.02
    assert 11.5 <= high < 30


def test_a_hostile_process_name_is_kept_whole_but_never_shown_raw(
    played: dict[str, Played],
) -> None:
    finding = played["hostile-name"].report.findings[0]
    assert "\x1b" in finding.summary
    shown = visible(finding.summary)
    assert "\x1b" not in shown
    assert "\n" not in shown
