"""Output that cannot be used and Ctrl-C: no traceback, and never the exit code of a state."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from tests.running import SOURCE, Said, forked

TWDIAG: Final = f"{sys.executable} -m twdiag"
STATES: Final = (0, 1, 2)


def shell(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, without this user's settings."""
    return subprocess.run(
        ["/bin/bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, **environ},
    )


def started(words: str, streams: str) -> Said:
    """Run twdiag from its start on, with such streams."""
    done = shell(_gone(words) if streams == ">|" else f"{TWDIAG} {words} {streams}")
    return Said(done.returncode, done.stdout, done.stderr)


def told(words: str, streams: str, real: str) -> Said:
    """Run twdiag with such streams: from its start for the words `real`, else in a fork."""
    if words == real:
        return started(words, streams)
    return forked(*words.split(), streams=streams)


CHECKS: Final = ("", "-vv", "--nope", "--help", "--version", "--list-metrics", "--format json")
LOST: Final = (">/dev/full", ">&-", ">&- 2>&-", ">/dev/full 2>&-", ">|")


@pytest.mark.parametrize("words", CHECKS)
@pytest.mark.parametrize("lost", LOST)
def test_a_check_whose_answer_is_lost_is_unknown(words: str, lost: str) -> None:
    said = told(f"check {words}", lost, real="check ")
    assert (said.code, said.out) == (3, "")
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) <= 2


@pytest.mark.parametrize("streams", ["", "2>&-", *LOST])
@pytest.mark.parametrize("words", ["check --nope", "--nope", "check --list-metrics"])
def test_a_fork_shows_what_a_start_shows(words: str, streams: str) -> None:
    assert forked(*words.split(), streams=streams) == started(words, streams)


def _gone(words: str) -> str:
    """Return a line that runs twdiag into a pipe whose reader has gone before."""
    code = (
        "import os, sys; reading, writing = os.pipe(); os.close(reading); os.dup2(writing, 1); "
        "os.execv(sys.executable, [sys.executable, '-m', 'twdiag', *sys.argv[1:]])"
    )
    return f'{sys.executable} -c "{code}" {words}'


@pytest.mark.parametrize("words", ["", "-v", "--quiet", "--format prometheus"])
def test_a_check_needs_no_stderr(words: str) -> None:
    """Its answer goes to stdout, and is told in full."""
    said = told(f"check {words}", "2>&-", real="check ")
    assert said.code in STATES
    assert bool(said.out) is (words != "--quiet" or said.code != 0)


def test_a_refusal_of_a_check_needs_no_stderr() -> None:
    said = started("check --nope", "2>&-")
    assert said.code == 3
    assert said.out.startswith("TWDIAG UNKNOWN - twdiag check has no option --nope")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("", 0),
        ("--json --this-netns", 0),
        ("--brief --this-netns", 0),
        ("--interval 0.1 --this-netns", 0),
        ("explain", 0),
        ("explain CLOSE_WAIT --live", 0),
        ("lab list", 0),
        ("lab", 0),
        ("help check", 0),
        ("--version", 0),
        ("--nope", 3),
        ("nope", 3),
        ("explain nope", 3),
        ("lab run nope", 3),
        ("--limit ports-warning=2", 3),
    ],
)
def test_other_commands_do_without_stderr_and_not_without_stdout(words: str, code: int) -> None:
    for closed in ("2>&-", ">&-", ">&- 2>&- <&-"):
        said = told(words, closed, real="")
        assert said.code == (code if closed == "2>&-" else 3), closed
        assert "Traceback" not in said.out + said.err
        assert "twdiag: " not in said.out  # a refusal must not pass for data


@pytest.mark.parametrize("words", ["check", "", "explain CLOSE_WAIT", "lab list", "--version"])
def test_an_answer_to_a_closed_stdout_is_said_to_be_lost(words: str) -> None:
    for stdout in (">&-", "1</dev/null"):
        said = shell(f"{TWDIAG} {words} {stdout}")
        assert said.returncode == 3
        assert said.stderr.splitlines() == [
            "twdiag: the answer is lost: standard output is not open for writing",
            "        if nobody needs the answer, send it to /dev/null",
        ]


def test_what_has_nothing_to_say_on_stdout_does_without(tmp_path: object) -> None:
    quiet = ("check", "--quiet", "--exit-zero", "--select", "close-wait-leak")
    assert forked(*quiet, streams=">&-") == Said(0, "", "")
    output = f"{tmp_path}/twdiag.prom"
    words = ("check", "--exit-zero", "--format", "prometheus", "--output", output)
    assert forked(*words, streams=">&-") == Said(0, "", "")
    with open(output, encoding="ascii") as file:
        assert "twdiag_status" in file.read()


@pytest.mark.parametrize(
    "words", ["diagnose --this-netns", "--json --this-netns", "explain", "lab list", "--help"]
)
def test_a_full_disk_is_a_sentence_and_a_reader_that_has_gone_is_none(words: str) -> None:
    said = told(words, ">/dev/full", real="explain")
    assert said.code == 3
    assert said.err.splitlines()[0] == "twdiag: it cannot go on: No space left on device"
    assert len(said.err.splitlines()) == 2
    assert told(words, ">/dev/full 2>&-", real="explain").code == 3
    said = told(words, ">|", real="explain")
    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize("closed", ["0", "1", "2"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str, tmp_path: object) -> None:
    state = f"{tmp_path}/state"
    direction = "<" if closed == "0" else ">"
    for _ in range(2):
        shell(f"{TWDIAG} check --state {state} {closed}{direction}&-")
        with open(state, encoding="ascii") as file:
            assert file.read(24) == '{"schema":"twdiag-state/'


# Send this process SIGINT when it does for the first time what WHEN names: imports a module, or
# calls a C function such as setitimer.
INTERRUPTED: Final = """
import os, runpy, signal, sys
kind, _, name = os.environ["WHEN"].partition(" ")
sent = []
def interrupt():
    if not sent:
        sent.append(1)
        os.kill(os.getpid(), signal.SIGINT)
def audited(event, values):
    if kind == "import" and event == "import" and values[0] == name:
        interrupt()
def profiled(frame, event, called):
    if event == "c_return" and getattr(called, "__name__", "") == name:
        interrupt()
sys.addaudithook(audited)
if kind == "call":
    sys.setprofile(profiled)
sys.argv = ["twdiag", *sys.argv[1:]]
runpy.run_module("twdiag", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("words", "when"),
    [
        ("check", "import twdiag.cli"),
        ("check", "import typer"),
        ("check", "import inspect"),
        ("check", "import twdiag.engine.examine"),
        ("check", "import twdiag.rules"),
        ("check", "import twdiag.render.nagios"),
        ("check", "call disable"),
        ("check", "call signal"),
        ("check", "call setitimer"),
        ("check", "call start_new_thread"),
        ("check --state STATE", "call flock"),
        ("check --state STATE", "call fsync"),
        ("check --nope", "import twdiag.check.verdict"),
        ("diagnose", "import twdiag.render.text"),
        ("--json", "import json"),
        ("explain", "import twdiag.explain.library"),
        ("nope", "import twdiag.cli.refusals"),
    ],
)
def test_ctrl_c_at_any_moment_ends_with_130(words: str, when: str, tmp_path: object) -> None:
    words = words.replace("STATE", f"{tmp_path}/state")
    command = [sys.executable, "-c", INTERRUPTED, *words.split()]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "WHEN": when},
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert not [name for name in os.listdir(str(tmp_path)) if name.endswith(".tmp")]


def test_ctrl_c_in_what_wraps_or_swallows_it() -> None:
    """Python makes another error of it in __set_name__, and only reports it from a finalizer."""
    wraps = "class A:\n def __set_name__(self, *_): raise KeyboardInterrupt\nclass B: a = A()\n"
    swallows = "class A:\n def __del__(self): raise KeyboardInterrupt\nA()\n"
    for code in (wraps, swallows):
        for where in ("twdiag.cli", "twdiag.rules", "twdiag.cli.diagnose"):
            start = (
                "import importlib, runpy, sys\n"
                "real = importlib._bootstrap_external.SourceLoader.get_code\n"
                "def get_code(self, name):\n"
                f"    if name == {where!r}: return compile({code!r}, name, 'exec')\n"
                "    return real(self, name)\n"
                "importlib._bootstrap_external.SourceFileLoader.get_code = get_code\n"
                "sys.argv = ['twdiag', 'diagnose']\n"
                "runpy.run_module('twdiag', run_name='__main__', alter_sys=True)\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", start],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE},
            )
            assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("seconds", ["0.1", "0.12", "0.15", "0.2", "0.3"])
def test_the_time_limit_may_be_reached_anywhere(seconds: str) -> None:
    done = shell(f"{TWDIAG} check --timeout {seconds}")
    assert done.returncode in (*STATES, 3)
    assert done.stdout.startswith("TWDIAG ")
    assert done.stderr == ""


BROKEN: Final = """
import runpy, sys
sys.modules["typer"] = None
sys.argv = ["twdiag", *sys.argv[1:]]
runpy.run_module("twdiag", run_name="__main__", alter_sys=True)
"""


def test_an_installation_in_pieces_is_no_state_either() -> None:
    done = shell(f"{sys.executable} -c '{BROKEN}' check -v")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("TWDIAG UNKNOWN - internal error: ModuleNotFoundError")
    done = shell(f"{sys.executable} -c '{BROKEN}' --json")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("twdiag: internal error: ModuleNotFoundError")
