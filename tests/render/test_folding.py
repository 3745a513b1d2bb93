"""Findings alike in many namespaces are one line with the count and the worst."""

from __future__ import annotations

import io
import re

import pytest

from tests.made import closed_first, listening, report_of, snapshot_of
from twdiag.check.verdict import Ranges, judge
from twdiag.model import facts
from twdiag.model.findings import (
    DestinationSubject,
    Finding,
    LookedAt,
    ProcessSubject,
    Report,
    Severity,
)
from twdiag.model.namespaces import Container, Namespace
from twdiag.model.snapshot import Gap
from twdiag.render.folding import folded
from twdiag.render.json import to_json
from twdiag.render.nagios import render_nagios, status_line
from twdiag.render.pieces import Detail, Look, where
from twdiag.render.text import render_text

RULE = "server-closes-first"


def finding(netns: str, severity: Severity = Severity.NOTICE, **changes: object) -> Finding:
    (found,) = report_of(snapshot_of(listening(443), *closed_first(40)), RULE).findings
    there = None if netns == "host" else Namespace(netns, hash(netns), None, (1,))
    return found._replace(netns=netns, namespace=there, severity=severity, **changes)


def report(*findings: Finding) -> Report:
    base = report_of(snapshot_of(listening(443)))
    places = {f.netns: f.namespace for f in findings}
    looked = tuple(LookedAt(name, 41, 1, place) for name, place in places.items())
    return base._replace(findings=findings, namespaces=looked)


def written(shown: Report, **look: object) -> str:
    out = io.StringIO()
    render_text(shown, out, Look(**look))  # type: ignore[arg-type]
    return out.getvalue()


def test_two_namespaces_are_told_one_by_one_and_three_as_one() -> None:
    alike = [finding(name) for name in ("a", "b", "c")]
    assert [(f.worst.netns, f.namespaces) for f in folded(alike[:2])] == [("a", 1), ("b", 1)]
    (all_of_them,) = folded(alike)
    assert (all_of_them.worst.netns, all_of_them.findings, all_of_them.namespaces) == ("a", 3, 3)


def test_servers_whose_processes_were_not_seen_are_not_alike() -> None:
    assert len(folded([finding("a")] * 5)) == 5


def test_the_worst_stands_for_all_and_where_it_would_stand() -> None:
    worst = finding("c", Severity.WARNING)
    other = finding("a", Severity.WARNING)._replace(rule="fd-limit-near")
    groups = folded([worst, other, finding("a"), finding("b")])
    assert [(g.worst, g.findings) for g in groups] == [(worst, 3), (other, 1)]


def test_the_screen_says_how_many_and_which_is_the_worst() -> None:
    text = written(report(*(finding(f"pod-{n}") for n in range(12)), finding("pod-0")))
    (line,) = (line for line in text.splitlines() if line.startswith(" 1 "))
    assert line == (
        " 1 NOTICE   server-closes-first in 12 namespaces (13 findings); the worst, in pod-0"
    )
    assert not re.search(r"(?m)^ 2 ", text)
    assert "13 notices" in text
    assert "12 namespaces looked at" in text


@pytest.mark.parametrize("detail", [Detail.FULL, Detail.BRIEF])
def test_the_whole_report_has_all(detail: Detail) -> None:
    text = written(report(*(finding(f"pod-{n}") for n in range(12))), detail=detail)
    assert all(f"in pod-{n}: " in text for n in range(12))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_folded_screen_fits(width: int) -> None:
    many = [finding(f"namespace-{n}/pod-{n}-5d8f7c9b6d-x2x4z") for n in range(200)]
    text = written(report(*many), width=width, height=24)
    assert len(text.splitlines()) < 24
    for line in text.splitlines():
        label = line.strip().partition(" ")[0]
        assert len(line) <= width or label in ("now", "see")


def test_what_is_folded_and_left_out_is_counted_in_findings() -> None:
    ports = [finding("a")._replace(rule=f"rule-{n}") for n in range(40)]
    text = written(report(*ports, *(finding(f"pod-{n}") for n in range(9))), width=80, height=24)
    shown = len(re.findall(r"(?m)^ ?\d+ NOTICE ", text))
    assert f"... and {49 - shown} findings more" in text


def test_a_check_says_of_how_many_namespaces_it_speaks() -> None:
    many = report(*(finding(f"pod-{n}") for n in range(12)), finding("pod-0"))
    answer = judge(many, {}, Ranges(), Severity.NOTICE)
    line = status_line(answer)
    assert line == "TWDIAG WARNING - server-closes-first in 12 namespaces, the worst in pod-0"
    out = io.StringIO()
    render_nagios(answer, out, 1)
    (whole,) = (one for one in out.getvalue().splitlines() if one.startswith("WARNING: "))
    assert ": in 12 namespaces (13 findings), the worst: in pod-0: the server on " in whole
    assert len(answer.problems) == 13
    as_notices = judge(many, {}, Ranges())
    assert status_line(as_notices).endswith(", 1 notice")
    assert len(as_notices.notices) == 13


def test_many_processes_are_told_with_what_they_add_up_to() -> None:
    def near(number: int, sockets: int | None, new: int | None = None) -> Finding:
        name = f"\x1b[2J\u202eworker-{number}"
        evidence = {facts.CLOSE_WAIT: sockets, facts.AGE_MIN: 60.0 + number, facts.AGE_MAX: 90.0}
        return finding("host")._replace(
            rule="close-wait-leak",
            subject=ProcessSubject(100 + number, name, "app", 99),
            summary=f"{name} (pid {100 + number}) leaks",
            evidence=evidence | {facts.NEW: new},
            pids=(100 + number,),
        )

    (one,) = folded([near(number, 1000, number) for number in range(4)])
    who = "\x1b[2J\u202eworker-* (4 processes, pids 100, 101, 102 and 1 more)"
    total = "4,000 sockets in CLOSE_WAIT, 6 of them new since the first sample, 60 s to 90 s old"
    assert one.summary() == f"{who}: {total}; the worst: \x1b[2J\u202eworker-0 (pid 100) leaks"
    (some,) = folded([near(1, 5), near(2, None), near(3, 5)])
    assert ": at least 10 sockets in CLOSE_WAIT, " in some.summary()
    shown = written(report(*one.members), width=80, height=24)
    assert "\\x1b[2J\\u202eworker-* (4 processes" in shown
    answer = judge(report(*one.members), {}, Ranges(), Severity.NOTICE)
    for text in (shown, status_line(answer)):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_many_sources_of_one_destination_are_told_by_that() -> None:
    def taken(source: str) -> Finding:
        there = DestinationSubject(source, "10.0.0.5", 5432)
        return finding("host")._replace(subject=there, evidence={facts.USED: 90, facts.PORTS: 100})

    (one,) = folded([taken(f"10.0.1.{n}") for n in range(3)])
    assert one.summary().startswith("10.0.0.5:5432 from 3 addresses: 270 ports in use; the worst: ")


def test_json_has_each_finding_with_the_group_that_it_is_told_in() -> None:
    other = finding("a")._replace(rule="fd-limit-near")
    told = to_json(report(other, *(finding(f"pod-{n}") for n in range(4))))
    assert [found["group"] for found in told["findings"]] == [1, 2, 2, 2, 2]
    assert to_json(report())["findings"] == []


def test_a_sidecar_is_told_with_the_network_that_it_shares() -> None:
    side = Container("podman", "ab" * 32, "side")
    assert where(finding("web")) == "web"
    assert where(finding("web", container=side._replace(name="web"))) == "web"
    assert where(finding("web", container=side)) == "side, network of web"
    assert where(finding("host", container=side)) == "side"
    assert where(finding("host")) == ""


def test_a_host_in_order_says_how_much_of_it_was_looked_at() -> None:
    base = report()
    places = (LookedAt("host", 1, 0), LookedAt("web", 9, 0, Namespace("web", 1, 1, (1,))))
    for detail in (Detail.NORMAL, Detail.FULL):
        text = written(base._replace(namespaces=places), detail=detail)
        assert "nothing wrong in 2 namespaces. Here: 1 socket, 0 in CLOSE_WAIT" in text
        assert "nothing wrong. 1 socket, " in written(base, detail=detail)
    gap = Gap("namespaces", "1 namespace was not looked at (db): no time was left", "more time")
    text = written(base._replace(namespaces=places, gaps=(gap,)))
    assert "nothing wrong in 2 namespaces, as far as can be seen." in text
