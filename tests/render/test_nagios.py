"""The status line, perfdata and long output: short, inert, and leading to the problem."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made import snapshot_of
from twdiag import lab
from twdiag.check.metrics import METRICS
from twdiag.check.verdict import Answer, Problem, Status, unknown
from twdiag.model.findings import (
    Confidence,
    DestinationSubject,
    Finding,
    HostSubject,
    ProcessSubject,
    Severity,
)
from twdiag.render.nagios import WIDTH, inert, render_nagios, status_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Played
    from tests.running import Said
    from twdiag.model.findings import Subject, Value
    from twdiag.model.snapshot import Snapshot

SCENARIOS = [scenario.name for scenario in lab.SCENARIOS]
CODES = {"notice": 0, "warning": 1, "critical": 2}
SERIES = re.compile(r"-?\d+(\.\d+)?(%|s|c)?(;[-@~:.\d]*(;[-@~:.\d]*(;-?[\d.]*(;[\d.]*)?)?)?)?|U")


def finding(summary: str, subject: Subject | None = None, **evidence: Value) -> Finding:
    return Finding(
        Severity.CRITICAL,
        Confidence.OBSERVED,
        summary,
        subject or HostSubject(),
        evidence,
        (),
        rule="a-rule",
    )


def line_of(found: Finding, more: int = 0) -> str:
    others = (found._replace(rule=f"rule-{number}") for number in range(more))
    problems = (Problem(Status.CRITICAL, one.summary, one) for one in (found, *others))
    return status_line(Answer(tuple(problems)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario(name: str, on: Callable[..., Said], played: dict[str, Played]) -> None:
    # That these are the findings that the scenario is for, the tests of the rules show.
    findings = played[name].report.findings
    worst = max((CODES[found.severity.label] for found in findings), default=0)
    said = on(name, "-v")
    assert said.code == worst
    assert said.line.startswith(f"TWDIAG {Status(worst).name} - ")
    assert len(said.line) < 80
    assert not said.err
    for found in findings:
        assert f"{found.severity.label.upper()}: {found.rule}: " in said.out


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_notice_counts_only_on_request(
    name: str, on: Callable[..., Said], played: dict[str, Played]
) -> None:
    findings = played[name].report.findings
    worst = max((max(1, CODES[found.severity.label]) for found in findings), default=0)
    assert on(name, "--warn-on", "notice").code == worst


@pytest.mark.parametrize("name", SCENARIOS)
def test_perfdata_of_every_scenario(name: str, on: Callable[..., Said]) -> None:
    said = on(name)
    always = [m.name for m in METRICS if not m.compares and not m.optional]
    assert [name for name in said.perfdata if name in always] == always
    assert set(said.perfdata) <= {m.name for m in METRICS if not m.compares}
    for series in said.perfdata.values():
        assert SERIES.fullmatch(series), series
    assert len(said.out) < 1024  # NRPE version 2 cuts there


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("idle", "TWDIAG OK - 0 TIME_WAIT, 0 CLOSE_WAIT, 0 % of ports used"),
        ("busy-keep-alive", "TWDIAG OK - 10 TIME_WAIT, 0 CLOSE_WAIT, 0 % of ports used"),
        ("ports-running-out", "TWDIAG CRITICAL - 127.0.0.1:8080 90 of 100 ports used"),
        ("bucket-overflow", "TWDIAG CRITICAL - 20 of 20 TIME_WAIT slots used (100 %) (+1 more)"),
        (
            "fin-unanswered",
            "TWDIAG WARNING - 10.77.0.2 does not acknowledge 6 closes: 6 in FIN_WAIT1",
        ),
    ],
)
def test_the_whole_line(name: str, line: str, on: Callable[..., Said]) -> None:
    assert on(name).line == line


def test_the_line_about_a_race_says_what_is_lost(on: Callable[..., Said]) -> None:
    line = on("keep-alive-race").line
    says = r"TWDIAG WARNING - server on 127.0.0.1:8080 lost \d+ requests in \d+ closes"
    assert re.fullmatch(says, line)


def test_perfdata_counts_what_is_there(on: Callable[..., Said]) -> None:
    said = on("ports-running-out")
    assert said.perfdata["time_wait"] == "90;;;0"
    assert said.perfdata["ports_taken_ratio"] == "90%;70;90;0;100"
    assert on("close-wait-never-accepted").perfdata["accept_queue_ratio"] == "100%;;;0"
    assert on("bucket-overflow").perfdata["time_wait_overflows_total"] == "10c;;;0"
    assert on("fd-limit").perfdata["fd_ratio"].startswith("89.06%;80;95")
    age = on("close-wait-leak").perfdata["close_wait_age"]
    assert 10 < float(age.partition("s")[0]) < 60
    assert on("ports-reusable").perfdata["ports_taken_ratio"].startswith("0%")
    assert on("ports-reusable").perfdata["ports_used_ratio"].startswith("90%")


def test_series_of_what_few_hosts_have_are_there_where_it_was_seen(
    on: Callable[..., Said], check: Callable[..., Said], host: Callable[[Snapshot], None]
) -> None:
    perfdata = on("snat-ports-running-out").perfdata
    assert perfdata["snat_ports_ratio"] == "100%;70;90;0;100"
    assert re.fullmatch(r"0(\.\d+)?%;75;90;0;100", perfdata["conntrack_ratio"])
    assert perfdata["conntrack_drops_total"].endswith("c;;;0")
    assert on("snat-ports-enough").perfdata["snat_ports_ratio"].startswith("25%")
    assert "snat_ports_ratio" not in on("idle").perfdata
    host(snapshot_of())
    assert not [m.name for m in METRICS if m.optional and m.name in check().perfdata]


def test_ranges_asked_for_are_in_the_perfdata(on: Callable[..., Said]) -> None:
    said = on("idle", "-w", "time_wait=20000", "-c", "time_wait=@10:20")
    assert said.perfdata["time_wait"] == "0;20000;@10:20;0"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["-w", "listen=@2:"], 1, "listen is 2, not below the limit of 2"),
        (["-w", "listen=@~:2"], 1, "listen is 2, not above the limit of 2"),
        (["-w", "listen=1"], 1, "listen is 2, above the limit of 1"),
        (["-c", "listen=@2:5"], 2, "listen is 2, between the limits of 2 and 5"),
        (["-w", "listen=1", "-c", "listen=1"], 2, "CRITICAL"),
        (["-w", "listen=2", "-c", "time_wait=0"], 0, "OK"),
        (["-w", "established=1:"], 1, "established is 0, below the limit of 1"),
    ],
)
def test_ranges(words: list[str], code: int, part: str, on: Callable[..., Said]) -> None:
    said = on("idle", *words)
    assert said.code == code
    assert part in said.line


def test_the_example_of_the_manual() -> None:
    found = finding(
        "10.0.0.5:5432: 27,104 of 28,232 ports used from 10.0.0.1, full in 9 s at 120/s",
        DestinationSubject("10.0.0.1", "10.0.0.5", 5432),
        used=27_104,
        ports=28_232,
        seconds_to_exhaustion=9.0,
    )
    expected = "TWDIAG CRITICAL - 10.0.0.5:5432 27,104 of 28,232 ports used, full in 9 s"
    assert line_of(found) == expected


def test_the_longest_destination_keeps_its_numbers() -> None:
    address = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"
    found = finding(
        f"[{address}]:5432: 28,232 of 28,232 ports used from ::1; connect() fails now",
        DestinationSubject("::1", address, 5432),
        used=28_232,
        ports=28_232,
        reusable=0,
    )
    line = line_of(found, more=12)
    assert len(line) <= WIDTH
    assert "28,232 of 28,232 ports used, connect() fails" in line
    assert line.endswith("(+12 more)")


def test_no_line_ends_with_a_word_that_leads_to_what_is_cut_off() -> None:
    problem = Problem(
        Status.WARNING, "600 connections to 127.0.0.1:8080 closed by this host in the l" + 40 * "x"
    )
    assert status_line(Answer((problem,))).endswith("closed by this host...")
    only = Problem(Status.WARNING, "the " * 40)  # a process may call itself anything
    assert status_line(Answer((only,))) == "TWDIAG WARNING - the..."


def test_a_command_that_cannot_be_pasted_is_left_out(on: Callable[..., Said]) -> None:
    said = on("conntrack-filling", "-vv")
    assert "  do: See whose connections they are\n" in said.out  # in full it is a pipe to awk
    assert "awk" not in said.out
    said = on("ports-running-out", "-vv")
    assert ": sysctl -w net.ipv4.ip_local_port_range='32768 60999'\n" in said.out


def test_a_pid_goes_before_a_clause_does() -> None:
    found = finding(
        "stuck (pid 1234567) does not read 5 connections that the peer closed: 500 bytes unread",
        ProcessSubject(1234567, "stuck", "root"),
    )
    line = line_of(found)
    assert line == "TWDIAG CRITICAL - stuck does not read 5 connections that the peer closed"


@given(st.text(max_size=300), st.integers(0, 10_000), st.integers(0, 3))
def test_no_text_breaks_the_line(text: str, more: int, verbosity: int) -> None:
    found = finding(text)._replace(summary=text)
    problem = Problem(Status.WARNING, text, found)
    for answer in (Answer((problem,) * (1 + more % 3)), unknown(text, text)):
        out = io.StringIO()
        render_nagios(answer, out, verbosity)
        lines = out.getvalue().splitlines()
        assert len(lines[0]) < 80
        assert out.getvalue().replace("\n", "").isprintable()
        assert not set("|`$<>&\\") & set(out.getvalue())


def test_a_hostile_name_is_inert(on: Callable[..., Said]) -> None:
    said = on("hostile-name", "--warn-on", "notice", "-vv")
    assert said.code == 1
    assert "\x1b" not in said.out
    assert said.out.count("|") == 1  # the one before the perfdata
    assert said.line == (
        "TWDIAG WARNING - ?[31m[red]??x holds 5 CLOSE_WAITs it never closed" + _age(said.line)
    )


def _age(line: str) -> str:
    """Return the part of a line that tells an age, if it had room for one."""
    found = re.search(r", \d+ s old$|, \d+ s to \d+ s old$", line)
    return found[0] if found else ""


def test_inert_replaces_what_acts() -> None:
    assert inert("a|b`c$d<e>f&g\\h\x00i\nj\u202ek\ud800") == "a?b?c?d?e?f?g?h?i?j?k?"
    assert inert("größe 10 %, it's") == "größe 10 %, it's"


def test_verbosity(on: Callable[..., Said]) -> None:
    brief, findings, advice = (on("fd-limit", *words) for words in ((), ("-v",), ("-vv",)))
    assert len(brief.out.splitlines()) == 1
    assert len(findings.out.splitlines()) == 3
    assert "  do: " in advice.out
    assert "  more: twdiag explain fd-limit-near" in advice.out
    assert brief.line == findings.line == advice.line


def test_long_output_is_bounded(played: dict[str, Played]) -> None:
    problem = Problem(Status.CRITICAL, "one of many", finding("one of many"))
    answer = Answer((problem,) * 1000, report=played["idle"].report)
    out = io.StringIO()
    render_nagios(answer, out, 1)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("TWDIAG CRITICAL - one of many (+999 more) | ")
    assert lines[-1] == "... and 950 lines more: twdiag diagnose"
    assert len(lines) == 52


def test_what_was_not_seen_is_told(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> None:
    from twdiag.model.snapshot import Gap

    gaps = tuple(Gap(what, "no timers here", "look elsewhere") for what in ("timers", "inodes"))
    host(played["idle"].snapshot._replace(gaps=gaps, fullest=None))
    said = check("-vv")
    assert said.code == 0
    assert "rules could not look" in said.line
    assert "NOT JUDGED: time-wait-rising: no timers here (look elsewhere)" in said.out
    assert said.perfdata["closes_per_second"] == "U"
    assert said.perfdata["fd_ratio"] == "U"


def test_an_unseen_number_with_a_range_is_unknown(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> None:
    from twdiag.model.snapshot import Gap

    host(played["idle"].snapshot._replace(gaps=(Gap("timers", "no", "way"),)))
    said = check("-w", "closes_per_second=100")
    assert said.code == 3
    assert said.line.startswith("TWDIAG UNKNOWN - closes_per_second was not seen")
    # Something measured as bad is worse than something not seen.
    assert check("-w", "closes_per_second=100", "-c", "listen=1").code == 2
    assert check("-w", "closes_per_second=100", "-w", "listen=1").code == 1


def test_numbers_that_only_the_host_shows_are_told_as_such(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> None:
    """A network namespace of its own has no net.ipv4.tcp_max_orphans."""
    seen = played["idle"].snapshot
    sysctls = {k: v for k, v in seen.sysctls.items() if k != "net.ipv4.tcp_max_orphans"}
    host(seen._replace(sysctls=sysctls))
    said = check("-vv")
    assert (said.code, said.perfdata["orphans_ratio"]) == (0, "U")
    assert "NOT MEASURED: orphans_ratio: only the host's namespace shows it" in said.out
    line = check("-w", "orphans_ratio=80").line
    assert line == "TWDIAG UNKNOWN - orphans_ratio was not seen: only the host's namespace shows it"


def test_a_first_run_with_a_state_has_the_series_of_the_second(
    on: Callable[..., Said], tmp_path: Path
) -> None:
    words = ("snat-ports-running-out", "--state", str(tmp_path / "state"), "-vv")
    first, second = on(*words), on(*words)
    assert first.perfdata.keys() == second.perfdata.keys()
    assert first.perfdata["new_conntrack_drops"] == "U"
    assert second.perfdata["new_conntrack_drops"] == "0;;;0"
    assert "new_conntrack_drops: it compares two runs, and there was none before" in first.out
    assert "compares two runs" not in second.out


def test_a_rule_asked_for_by_name_has_to_look(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> None:
    from twdiag.model.snapshot import Gap

    host(played["idle"].snapshot._replace(gaps=(Gap("timers", "no", "way"),)))
    said = check("--select", "time-wait-rising")
    assert said.code == 3
    assert said.line == "TWDIAG UNKNOWN - time-wait-rising could not look: no"


def test_select_and_ignore(on: Callable[..., Said]) -> None:
    assert on("fd-limit", "--select", "close-wait-unread").code == 0
    assert "(+" not in on("fd-limit", "--ignore", "close-wait-leak").line
    assert on("fd-limit", "--ignore", "close-wait-leak", "--ignore", "fd-limit-near").code == 0


def test_ports_and_processes(on: Callable[..., Said]) -> None:
    assert on("ports-running-out", "--port", "8080").code == 2
    assert on("ports-running-out", "--port", "81").code == 0
    assert on("fd-limit", "--process", "leaky").code == 1
    assert on("fd-limit", "--process", "other").code == 0


def test_fd_ratio_needs_no_owners(
    monkeypatch: pytest.MonkeyPatch,
    played: dict[str, Played],
    host: Callable[[Snapshot], None],
    check: Callable[..., Said],
) -> None:
    from twdiag import sources

    asked: list[int] = []
    young = played["close-wait-young"].snapshot._replace(owners={}, crowded=())

    def seen(fullest: float | None) -> None:
        host(young._replace(fullest=fullest))
        monkeypatch.setattr(
            sources, "find_owners", lambda _, inodes, *__: asked.extend(inodes) or ({}, [])
        )

    seen(0.5)
    said = check("--limit", "close-wait-notice=6")
    assert said.code == 0
    assert said.perfdata["fd_ratio"] == "50%;80;95;0;100"
    assert check("--limit", "close-wait-notice=6", "-w", "fd_ratio=40").code == 1
    # What no process shows is not 0.
    seen(None)
    assert check("--limit", "close-wait-notice=6").perfdata["fd_ratio"] == "U"
    assert check("--limit", "close-wait-notice=6", "-w", "fd_ratio=80").code == 3
    assert asked == []


def test_no_name_ends_a_word_or_a_command_of_whoever_is_notified() -> None:
    assert inert('x"; reboot; "') == "x', reboot, '"
    assert inert('`$(a)`|<b>&\\"') == "??(a)??" + "?b???'"
