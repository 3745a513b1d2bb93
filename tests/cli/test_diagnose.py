"""The command line as its users meet it: pipes, terminals, typos, refusals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from tests.made import LISTEN_8080, aged, close_wait, held, listening, report_of, snapshot_of
from tests.running import forked
from twdiag import __version__, cli, lab
from twdiag.engine.look import Question, filtered
from twdiag.model.findings import Severity, Step
from twdiag.render.folding import folded
from twdiag.render.json import to_json
from twdiag.render.pieces import Detail, Look, sparkline
from twdiag.render.text import render_text
from twdiag.rules import runner
from twdiag.wording import command_in, visible

if TYPE_CHECKING:
    from tests.conftest import Played
    from twdiag.model.findings import Report

TWDIAG = [sys.executable, "-m", "twdiag"]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def twdiag(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a pipe and return what came out."""
    return subprocess.run(
        [*TWDIAG, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONUTF8": "1"} | environ,
    )


def on_terminal(*words: str, columns: int = 80, **environ: str) -> tuple[str, int]:
    """Run a command on a pseudo-terminal and return (everything it wrote, exit code)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update({"COLUMNS": str(columns), "TERM": "xterm", "PYTHONUTF8": "1"} | environ)
        os.execv(sys.executable, [*TWDIAG, *words])
    written = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        written += piece
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return written.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(status)


def text_of(play: Played, **changes: object) -> str:
    """Return the text report of a scenario."""
    return written(play.report, **changes)


def written(report: Report, **changes: object) -> str:
    """Return a report as text."""
    out = StringIO()
    render_text(report, out, Look(**changes))  # type: ignore[arg-type]
    return out.getvalue()


def test_no_command_is_diagnose() -> None:
    alone, named = twdiag(), twdiag("diagnose")
    assert alone.returncode == named.returncode == 0
    for done in (alone, named):
        verdict, where = done.stdout.splitlines()[:2]
        assert re.match(r"(OK|NOTICE|WARNING|CRITICAL)  \S", verdict)
        assert " UTC  Linux " in where
    assert "States" in alone.stdout
    assert alone.stderr == ""


def test_options_without_a_command_are_those_of_diagnose() -> None:
    assert json.loads(forked("--json").out)["schema"] == "twdiag/1"
    refused = forked("--jsn")
    assert refused.code == 3
    assert "Did you mean" in refused.err or "--jsn" in refused.err


def test_json_is_schema_one_and_nothing_else() -> None:
    done = forked("diagnose", "--json")
    report = json.loads(done.out)
    assert report["schema"] == "twdiag/1"
    assert done.out.isascii()
    wanted = {"schema", "version", "taken_at", "host", "source", "status", "states"}
    assert wanted | {"findings", "skipped", "gaps"} <= set(report)
    assert json.loads(forked("diagnose", "--format", "json").out)["schema"] == "twdiag/1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("diagnos",), "did you mean 'diagnose'"),
        (("diagnose", "--jsn"), "twdiag diagnose has no option --jsn; did you mean --json?"),
        (("diagnose", "--select", "close-wait-leek"), "did you mean 'close-wait-leak'"),
        (("diagnose", "--limit", "ports-warning=2"), "between 0 and 1"),
        (("diagnose", "--limit", "port-warning=0.5"), "did you mean 'ports-warning'"),
        (("diagnose", "--limit", "ports-warning"), "NAME=VALUE"),
        (("diagnose", "--port", "99999"), "99999"),
        (("diagnose", "--source", "magic"), "magic"),
        (("diagnose", "--brief", "--full"), "exclude each other"),
        (("diagnose", "--interval", "nan"), "a number of seconds"),
        (("lab", "run", "close-wait-leek"), "did you mean 'close-wait-leak'"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_next_step(words: tuple[str, ...], said: str) -> None:
    done = forked(*words)
    assert done.code == 3
    assert done.out == ""
    assert said in done.err
    assert len(done.err.splitlines()) == 2
    assert "Traceback" not in done.err


def test_help_and_version() -> None:
    assert twdiag("--version").stdout == twdiag("-V").stdout == f"twdiag {__version__}\n"
    for words in ((), ("diagnose",), ("lab",), ("lab", "run")):
        shown = forked(*words, "-h")
        assert shown.code == 0
        assert "Examples:" in shown.out
        assert max(map(len, shown.out.splitlines())) <= 100


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m twdiag diagnose --json | head -c 1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    child = subprocess.Popen(
        [*TWDIAG, "diagnose", "--interval", "60"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while "time.sleep" not in _stack_hint(child.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "Traceback" not in said


def _stack_hint(pid: int) -> str:
    """Return "time.sleep" once the process sleeps on the clock (its wait channel says so)."""
    try:
        with open(f"/proc/{pid}/wchan") as file:
            return "time.sleep" if "nanosleep" in file.read() else ""
    except OSError:
        return ""


def test_an_internal_error_is_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(runner, "select", broken)
    monkeypatch.delenv("TWDIAG_DEBUG", raising=False)
    assert cli.run(["diagnose"]) == 3
    said = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: oops" in said
    assert "Traceback" not in said


def test_a_terminal_gets_colours_and_its_width_and_a_pipe_neither() -> None:
    shown, code = on_terminal("diagnose", "--this-netns", columns=60)
    assert code == 0
    assert ESCAPES.search(shown)
    assert max(len(ESCAPES.sub("", line)) for line in shown.splitlines()) <= 60
    assert not ESCAPES.search(forked("diagnose", environ={"TERM": "xterm"}).out)


@pytest.mark.parametrize(
    ("words", "environ", "colours"),
    [
        ((), {"NO_COLOR": "1"}, False),
        ((), {"TERM": "dumb"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ],
)
def test_the_usual_ways_to_turn_colours_off_work(
    words: tuple[str, ...], environ: dict[str, str], colours: bool
) -> None:
    shown, _ = on_terminal("diagnose", "--this-netns", *words, **environ)
    assert bool(ESCAPES.search(shown)) is colours


def test_a_person_who_waits_is_told_why_and_a_pipe_is_not() -> None:
    shown, code = on_terminal("diagnose", "--this-netns", "--interval", "1.5", "--brief")
    assert code == 0
    assert "waiting 1.5 s for the second sample ..." in shown
    assert forked("diagnose", "--interval", "1.2", "--brief").err == ""


def test_a_terminal_that_does_not_know_its_width_gets_a_report() -> None:
    shown, code = on_terminal("diagnose", "--this-netns", columns=0)
    assert code == 0
    assert "States" in shown


def test_force_color_colours_a_pipe() -> None:
    assert ESCAPES.search(forked("diagnose", environ={"FORCE_COLOR": "1"}).out)


def test_without_utf8_the_report_is_ascii() -> None:
    done = subprocess.run(
        [*TWDIAG, "lab", "run", "server-closes-first", "--full"],
        capture_output=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
    )
    assert done.stdout.isascii()
    assert b"you are here" in done.stdout


@pytest.mark.parametrize("scenario", lab.SCENARIOS, ids=lambda s: s.name)
def test_each_report_fits_80_columns_and_is_whole_in_a_pipe(
    scenario: lab.Scenario, played: dict[str, Played]
) -> None:
    play = played[scenario.name]
    for detail in (Detail.BRIEF, Detail.FULL):
        narrow = text_of(play, width=80, detail=detail)
        assert max(map(len, narrow.splitlines())) <= 80
    for detail in Detail:
        wide = text_of(play, width=None, detail=detail)
        groups = folded(play.report.findings)
        told = (
            [group.worst for group in groups] if detail is Detail.NORMAL else play.report.findings
        )
        for finding in told:
            assert finding.rule in text_of(play, width=80, detail=detail)
            assert finding.rule in wide
            if scenario.name != "hostile-name":
                assert finding.summary in wide


def with_causes(report: Report) -> Report:
    """Return the report as if each process had been looked at: longer than most are."""
    cause = ("in a lock held by thread 4711, which waits for the answer of 10.0.0.5:5432 itself",)
    step = Step("sudo py-spy dump --nonblocking --pid 1234567", "the thread that holds the lock")
    findings = (f._replace(waits=cause * 2, steps=(step,) * 2) for f in report.findings)
    return report._replace(findings=tuple(findings))


@pytest.mark.parametrize("scenario", lab.SCENARIOS, ids=lambda s: s.name)
@pytest.mark.parametrize("looked", [False, True], ids=["as-seen", "with-causes"])
def test_each_report_fits_one_screen(
    scenario: lab.Scenario, looked: bool, played: dict[str, Played]
) -> None:
    report = played[scenario.name].report
    report = with_causes(report) if looked else report
    shown = written(report, width=80, height=24)
    rows = sum(max(1, -(-len(line) // 80)) for line in shown.splitlines())
    assert rows < 24  # the prompt takes a line
    assert shown.startswith(report.status.label.upper() + "  ")
    # What is folded is counted.
    left = re.search(r"\.\.\. and (\d+) findings? more: twdiag --full", shown)
    numbered = len(re.findall(r"(?m)^ ?\d+ (?:NOTICE|WARNING|CRITICAL) ", shown))
    assert numbered + int(left[1] if left else 0) == len(folded(report.findings))
    assert numbered >= min(1, len(report.findings))


@pytest.mark.parametrize("scenario", lab.SCENARIOS, ids=lambda s: s.name)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_command_of_a_screen_is_broken(
    scenario: lab.Scenario, width: int, played: dict[str, Played]
) -> None:
    report = with_causes(played[scenario.name].report)
    for given in (played[scenario.name].report, report):
        known = commands_of(given)
        for height in (None, 24):
            for line in written(given, width=width, height=height).splitlines():
                label, _, command = line.strip().partition(" ")
                if command.strip().startswith("the same as for "):
                    assert label == "now"
                elif label in ("now", "see") and line.startswith(" " * 12):
                    assert command.strip() in known
                else:
                    assert len(line) <= width, line
    # Where nothing has to fit, each finding has its command, written out once.
    whole = written(report, width=width)
    written_out = whole.count("sudo py-spy dump --nonblocking --pid 1234567\n")
    assert written_out == min(1, len(report.findings))
    assert written_out + whole.count("now   the same as for 1\n") == len(folded(report.findings))


@pytest.mark.parametrize("scenario", lab.SCENARIOS, ids=lambda s: s.name)
def test_no_command_of_the_whole_report_is_broken(
    scenario: lab.Scenario, played: dict[str, Played]
) -> None:
    report = with_causes(played[scenario.name].report)
    lines = written(report, width=80, detail=Detail.FULL).splitlines()
    for finding in report.findings:
        for advice in finding.advice:
            for command in filter(None, map(command_in, (advice.how, advice.verify))):
                assert any(line.endswith(visible(command)) for line in lines), command


def commands_of(report: Report) -> set[str]:
    """Return every command that a report could show, as it is shown."""
    steps = {step.run for finding in report.findings for step in finding.steps}
    texts = {t for f in report.findings for a in f.advice for t in (a.how, a.verify)}
    found = steps | {command_in(text) for text in texts}
    return {visible(command) for command in found if command}


@pytest.mark.parametrize("scenario", lab.SCENARIOS, ids=lambda s: s.name)
def test_a_report_without_utf8_is_ascii(scenario: lab.Scenario, played: dict[str, Played]) -> None:
    play = played[scenario.name]
    for detail in Detail:
        for width, height in ((None, None), (80, 24), (100, 60)):
            look = {"width": width, "height": height, "detail": detail}
            assert text_of(play, unicode=False, **look).isascii()


def test_the_verdict_comes_first_and_the_worst_finding_next(played: dict[str, Played]) -> None:
    lines = text_of(played["bucket-overflow"]).splitlines()
    assert lines[0].startswith("CRITICAL  20 of 20 TIME_WAIT slots used (100 %)")
    assert lines[1].endswith("  1 critical, 1 warning, 1 notice")
    assert lines[3] == " 1 CRITICAL time-wait-table-filling"
    lines = text_of(played["bucket-overflow"], detail=Detail.FULL).splitlines()
    assert lines[0].startswith(f"twdiag {__version__}: ")
    assert lines[1] == "CRITICAL: 1 critical, 1 warning, 1 notice"
    assert lines[3].startswith("CRITICAL time-wait-table-filling: 20 of 20")


def test_a_healthy_host_gets_a_short_answer_with_numbers(played: dict[str, Played]) -> None:
    lines = text_of(played["busy-keep-alive"]).splitlines()
    assert lines[0].startswith("OK  nothing wrong. ")
    assert "in CLOSE_WAIT" in lines[0]
    assert "of 28,232 ports" in lines[0]
    assert len(lines) < 12


def test_the_place_in_the_handshake_is_drawn_once(played: dict[str, Played]) -> None:
    text = text_of(played["fd-limit"], detail=Detail.FULL)
    assert text.count("you are here") == 1
    assert text.count("Where") == 2


def test_a_screen_has_a_drawing_only_where_one_finding_leaves_room(
    played: dict[str, Played],
) -> None:
    alone = played["close-wait-leak"]
    assert len(alone.report.findings) == 1
    assert text_of(alone, width=80, height=60).count("you are here") == 1
    for look in ({}, {"width": 80}, {"width": 80, "height": 16}, {"width": 59, "height": 60}):
        assert "you are here" not in text_of(alone, **look)
    assert len(played["fd-limit"].report.findings) == 2
    assert "you are here" not in text_of(played["fd-limit"], width=80, height=60)


def test_brief_is_one_line_per_finding(played: dict[str, Played]) -> None:
    play = played["bucket-overflow"]
    lines = text_of(play, detail=Detail.BRIEF).splitlines()
    assert len(lines) == 1 + len(play.report.findings)


@pytest.mark.parametrize("color", [False, True])
def test_a_hostile_process_name_is_inert_in_every_text(
    played: dict[str, Played], color: bool
) -> None:
    text = text_of(played["hostile-name"], color=color, width=80, detail=Detail.FULL)
    plain = ESCAPES.sub("", text)
    assert "\x1b" not in plain
    assert r"\x1b[31m[red]|" in plain.replace("\n", "").replace(" ", "")
    encoded = json.dumps(to_json(played["hostile-name"].report))
    assert "\\u001b[31m[red]|\\nx" in encoded
    assert "\x1b" not in encoded


def test_json_names_subject_evidence_and_place(played: dict[str, Played]) -> None:
    report = to_json(played["close-wait-leak"].report)
    finding = report["findings"][0]
    assert finding["subject"]["kind"] == "process"
    assert finding["subject"]["name"] == "leaky"
    assert finding["evidence"]["close_wait"] == 5
    assert finding["handshake"]["role"] == "passive closer"
    assert finding["handshake"]["state"] == "CLOSE_WAIT"
    assert finding["advice"][0]["do"]
    assert report["status"] == "notice"
    assert report["states"]["CLOSE_WAIT"] == 5


def test_filters_by_port_and_process() -> None:
    sockets = aged(close_wait(9), 60)
    report = report_of(snapshot_of(LISTEN_8080, *sockets, owners=held(9, 20, 1024)))
    for question, kept in (
        (Question(processes=("java",)), 1),
        (Question(processes=("812",)), 1),
        (Question(processes=("node",)), 0),
        (Question(ports=(8080,)), 1),
        (Question(ports=(9,)), 0),
    ):
        assert len(filtered(report, question).findings) == kept
    assert report.status is Severity.NOTICE
    left = filtered(report, Question(ports=(9,)))
    assert "no finding matches the filter; 1 other left out, the worst notice" in written(left)
    text = written(left, detail=Detail.FULL)
    assert "no finding matches the filter; 1 other left out, the worst notice" in text


def test_more_findings_than_fit_are_counted() -> None:
    full = (listening(2000 + i, recv_q=9, send_q=8) for i in range(40))
    report = report_of(snapshot_of(*full), "accept-queue-full")
    assert len(report.findings) == 40
    for look in ({}, {"width": 80}, {"width": 80, "detail": Detail.FULL}):
        text = written(report, **look)
        assert all(f":{2000 + i}" in text for i in range(40))
        assert "more:" not in text
    screen = written(report, width=80, height=24)
    assert len(screen.splitlines()) < 24
    shown = len(re.findall(r"(?m)^ ?\d+ (?:NOTICE|WARNING|CRITICAL) ", screen))
    assert shown >= 3
    fold = f"   ... and {40 - shown} findings more: twdiag --full, or --brief for a line each\n"
    assert fold in screen


def test_a_sparkline_tells_zero_from_little() -> None:
    assert sparkline([0, 1, 1000]) == "·▁█"
    assert sparkline([0, 1, 1000], unicode=False) == ".:@"
    assert sparkline([]) == ""


def test_lab_list_names_every_scenario() -> None:
    shown = forked("lab", "list").out
    for scenario in lab.SCENARIOS:
        assert re.search(rf"^{scenario.name} ", shown, re.MULTILINE)


def test_lab_run_tells_the_story_and_the_report() -> None:
    done = forked("lab", "run", "server-closes-first")
    assert done.code == 0
    assert done.out.startswith("Scenario server-closes-first\n")
    assert "23 TIME_WAITs" in done.out
    assert json.loads(forked("lab", "run", "idle", "--json").out)["status"] == "ok"
