"""Exit codes: 0, 1 and 2 are measured states; everything else is 3, said in one line on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.running import NOBODY, SOURCE, process, twdiag
from twdiag import __version__, lab, sources
from twdiag.errors import SourceRefused
from twdiag.rules import runner
from twdiag.sources.live.processes import likely, owners

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Played
    from tests.running import Said
    from twdiag.lab import Stage


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["extra"],
        ["--port", "abc"],
        ["--port", "0"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--format", "xml"],
        ["--source", "nowhere"],
        ["-w"],
        ["-w", "10"],
        ["-w", "time_wait=20:10"],
        ["-w", "no_such_metric=10"],
        ["-c", "time_wait=ten"],
        ["--limit", "ports-warnig=0.8"],
        ["--limit", "ports-warning=8"],
        ["--select", "no-such-rule"],
        ["--ignore", "no-such-rule"],
        ["--config", "/nonexistent/file"],
        ["--process", ""],
        ["--state", "/nonexistent/file"],
        ["--output", "/nonexistent/file"],
        ["--output", "/dev/null"],
        ["--warn-on", "ok"],
        ["--print-config", "zabbix"],
        ["--notify-on", "change"],
        ["--quiet", "--nonsense"],
        ["--exit-zero", "-w", "time_wait=20:10"],
        ["--format", "prometheus", "--nonsense"],
    ],
)
def test_bad_usage_is_unknown(words: list[str], check: Callable[..., Said]) -> None:
    said = check(*words)
    assert said.code == 3
    assert said.line.startswith("TWDIAG UNKNOWN - ")
    assert len(said.line) < 80
    assert len(said.out.splitlines()) <= 3
    assert not said.err


def test_from_a_shell() -> None:
    said = twdiag("check", "--nonsense")
    assert (said.code, said.err) == (3, "")
    assert said.out.startswith("TWDIAG UNKNOWN - twdiag check has no option --nonsense")
    said = twdiag("check")
    assert said.code in (0, 1, 2)
    assert not said.err
    assert said.out.startswith("TWDIAG ")


@pytest.mark.parametrize("option", ["-h", "--help", "-V", "--version"])
def test_help_and_version_follow_the_guidelines(
    option: str, capsys: pytest.CaptureFixture[str], check: Callable[..., Said]
) -> None:
    said = check(option)
    assert said.code == 3
    assert "UNKNOWN -" not in said.out
    assert (f"twdiag {__version__}\n" if option[-1] in "Vn" else "Exit status: 0 OK") in said.out


def test_the_help_fits_and_tells_everything(check: Callable[..., Said]) -> None:
    said = check("--help").out
    assert max(map(len, said.splitlines())) <= 100
    for part in ("--state", "--notify-on", "--print-config", "Examples:", "3 UNKNOWN"):
        assert part in said


def test_a_source_that_refuses_is_unknown(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Said]
) -> None:
    def refuse(source: str) -> None:
        raise SourceRefused("the kernel refuses\nthe | dump", "use `something` else")

    monkeypatch.setattr(sources, "collect", refuse)
    said = check()
    assert said == (3, "TWDIAG UNKNOWN - the kernel refuses?the ? dump\nuse ?something? else\n", "")
    report = json.loads(check("--format", "json").out)
    assert report["schema"] == "twdiag/1"
    assert report["status"] == "unknown"
    assert report["check"]["exit_code"] == 3


def test_an_internal_error_is_unknown(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Said]
) -> None:
    def fail(source: str) -> None:
        raise ZeroDivisionError("oh\x1b")

    monkeypatch.setattr(sources, "collect", fail)
    said = check()
    assert said.code == 3
    assert said.line == "TWDIAG UNKNOWN - internal error: ZeroDivisionError: oh?"
    monkeypatch.setenv("TWDIAG_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        check()


def test_exit_zero(on: Callable[..., Said], check: Callable[..., Said]) -> None:
    said = on("ports-running-out", "--exit-zero")
    assert said.code == 0
    assert said.line.startswith("TWDIAG CRITICAL")
    assert check("--exit-zero", "--config", "/nonexistent").code == 3


def test_json_is_the_report_with_the_answer(on: Callable[..., Said]) -> None:
    said = on("ports-running-out", "--format", "json", "-w", "listen=5")
    report = json.loads(said.out)
    assert said.code == 2
    assert report["schema"] == "twdiag/1"
    assert [found["rule"] for found in report["findings"]] == ["ports-running-out"]
    answer = report["check"]
    assert answer["status"] == "CRITICAL"
    assert answer["line"] == "TWDIAG CRITICAL - 127.0.0.1:8080 90 of 100 ports used"
    assert answer["metrics"]["ports_taken_ratio"] == 90
    assert answer["metrics"]["new_close_wait"] is None
    assert answer["problems"][0]["rule"] == "ports-running-out"


def test_quiet(on: Callable[..., Said]) -> None:
    assert on("idle", "--quiet") == (0, "", "")
    assert on("close-wait-leak", "--quiet") == (0, "", "")
    said = on("fd-limit", "-q")
    assert said.code == 1
    assert [line.split(":")[0] for line in said.out.splitlines()[1:]] == ["WARNING"] * 2
    assert "|" not in said.out
    assert said.out == on("fd-limit", "--notify-on", "problem").out


def test_output_goes_to_the_file_alone(on: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert on("fd-limit", "--output", str(file)) == (1, "", "")
    assert file.read_text().startswith("TWDIAG WARNING - leaky")
    link = tmp_path / "link"
    link.symlink_to(file)
    said = on("idle", "--output", str(link))
    assert said.code == 3
    assert "is not a plain file" in said.out


def hang(source: str) -> None:
    """Be a collector that hangs in a system call and takes every error for its own."""
    reading, _ = os.pipe()
    while True:
        try:
            os.read(reading, 1)
        except Exception:
            continue


def test_a_collector_that_hangs_ends_in_unknown(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Said], tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "collect", hang)
    began = time.monotonic()
    said = check("--timeout", "0.3")
    assert time.monotonic() - began > 0.2  # and it ends, which the collector never does
    assert said.code == 3
    assert said.line == "TWDIAG UNKNOWN - no answer within 0.3 s, while reading the sockets"
    state = tmp_path / "state"
    assert check("--timeout", "0.3", "--state", str(state)).code == 3
    assert json.loads(state.read_text())["status"] == "UNKNOWN"
    said = check("--timeout", "0.3", "--format", "prometheus")
    assert 'twdiag_source_up{source="auto"} 0' in said.out


@pytest.mark.parametrize(
    ("place", "doing"),
    [
        ((runner, "select"), "applying the rules"),
        ((sources, "find_owners"), "looking for socket owners"),
        ((runner, "tell"), "judging what was found"),
    ],
)
def test_the_step_that_took_the_time_is_named(
    place: tuple[object, str],
    doing: str,
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[..., Said],
) -> None:
    monkeypatch.setattr(*place, lambda *_: hang(""))
    said = check("--timeout", "0.5")
    assert said.line == f"TWDIAG UNKNOWN - no answer within 0.5 s, while {doing}"


def test_a_verdict_does_not_wait_for_the_names_of_all_owners(
    monkeypatch: pytest.MonkeyPatch, played: dict[str, Played], check: Callable[..., Said]
) -> None:
    snapshot = played["close-wait-leak"].snapshot._replace(owners={})
    monkeypatch.setattr(sources, "collect", lambda source: snapshot)

    def slow(pid: int, links: object) -> tuple[set[int], int]:
        time.sleep(0.2)
        return set(), 0

    monkeypatch.setattr(owners, "_held", slow)
    monkeypatch.setattr(likely, "_groups", lambda *_: [range(1, 100)])
    said = check("--timeout", "1.5", "--warn-on", "notice", "-v")
    assert said.code == 1
    assert "were not found within 0." in said.out


def test_a_settings_file_that_hangs_ends_in_unknown(
    check: Callable[..., Said], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said = check("--timeout", "0.3", "--config", str(pipe))
    assert said.code == 3
    assert said.line.endswith("while reading the settings")


STUCK = """
import signal, sys, time
from twdiag import sources
from twdiag.cli import run
from twdiag.history import deadline
deadline.GRACE = 0.2
def collect(source):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])  # as if the kernel let none in
    time.sleep(30)
sources.collect = collect
sys.exit(run(["check", "--timeout", "0.3"]))
"""


def test_even_a_main_thread_that_no_signal_reaches() -> None:
    began = time.monotonic()
    said = process(sys.executable, "-c", STUCK)
    assert said == (3, "TWDIAG UNKNOWN - no answer within 0.3 s\n", "")
    assert time.monotonic() - began < 10


def test_a_reader_that_takes_nothing() -> None:
    words = [sys.executable, "-m", "twdiag", "check", "-vv", "--timeout", "0.5"]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:  # fill the pipe, so that writing to it blocks
        try:
            os.write(writing, bytes(4096))
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    with subprocess.Popen(words, stdout=writing) as running:
        assert running.wait(timeout=20) == 3
    os.close(reading)
    os.close(writing)


def test_a_link_named_check_twdiag(tmp_path: Path) -> None:
    script = tmp_path / "twdiag"
    script.write_text(f"#!{sys.executable}\nfrom twdiag.cli import main\nmain()\n")
    script.chmod(0o755)
    link = tmp_path / "check_twdiag"
    link.symlink_to(script)
    said = process(str(link), "-w", "time_wait=20:10")
    assert said.code == 3
    assert said.line.startswith("TWDIAG UNKNOWN - --warning: time_wait: the range '20:10'")
    assert process(str(link)).line.startswith("TWDIAG ")


def look_from_a_process(stage: Stage) -> tuple[Said, Said]:
    """Run `twdiag check` as a process in the namespace of a scenario."""
    del stage
    return twdiag("check"), twdiag("check", "--source", "proc")


def test_a_process_in_a_namespace() -> None:
    scenario = lab.find("ports-running-out")
    assert scenario is not None
    for said in lab.play(scenario, look_from_a_process):
        assert (said.code, said.err) == (2, "")
        assert said.line.startswith("TWDIAG CRITICAL - 127.0.0.1:8080 90 of 100 ports used")


def test_other_commands_refuse_on_stderr() -> None:
    said = twdiag("diagnose", "--nonsense")
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("twdiag: twdiag diagnose has no option --nonsense")


def test_under_cron(tmp_path: Path) -> None:
    """Cron gives next to no environment, no terminal and no input."""
    words = (sys.executable, "-m", "twdiag", "check")
    said = process(*words, "--quiet", env={"PYTHONPATH": SOURCE}, cwd="/", stdin=subprocess.DEVNULL)
    assert said.code in (0, 1, 2)
    assert (said.out == "") == (said.code == 0)
    assert not said.err
    said = process(*words, env={"PYTHONPATH": SOURCE, "LC_ALL": "C", "PYTHONUTF8": "0"}, cwd="/")
    assert said.out.isascii()


def test_as_nobody(open_twdiag: str) -> None:
    """HOME is root's, as sudo may leave it; the owners of the sockets are out of sight."""
    env = {"PATH": os.environ["PATH"], "HOME": "/root"}
    said = process(*NOBODY, open_twdiag, "check", "-v", env=env, cwd="/")
    assert said.code in (0, 1, 2)
    assert not said.err
    assert said.perfdata["time_wait"] != "U"
    said = process(*NOBODY, open_twdiag, "check", "--state", "/root/state", env=env, cwd="/")
    assert said.code == 3
    assert "Permission denied" in said.out
