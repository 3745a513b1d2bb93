"""`twdiag trace` as its users meet it: signals, pipes, full disks, words that make no sense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine import endings
from tests.engine.privately import in_private
from tests.running import forked
from twdiag.cli.times import parse_time
from twdiag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

TRACE: Final = [sys.executable, "-m", "twdiag", "trace", "--source", "multicast"]
ENVIRON: Final = os.environ | {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": ""}


def one_close(port: int) -> None:
    """End one connection, by the server."""
    with endings.listen(port) as listener:
        client, server = endings.connected(listener)
        server.close()
        client.recv(1)
        client.close()


def started(*words: str) -> subprocess.Popen[str]:
    """Return a trace that has begun."""
    process = subprocess.Popen(
        [*TRACE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRON,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("TIME")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_summary(number: signal.Signals) -> None:
    def work() -> tuple[str, str, int]:
        process = started()
        one_close(7300)
        time.sleep(0.2)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        return out, err, process.returncode

    out, err, code = in_private(work)
    assert (code, err) == (0, "")
    assert "2 connections ended in" in out
    assert "Closed first: here 1, the peer 1, both 0" in out
    assert "Lost: 0 announcements" in out


def test_a_line_is_there_before_the_end() -> None:
    def work() -> str:
        process = started()
        one_close(7301)
        assert process.stdout is not None
        line = process.stdout.readline()  # would hang if lines were kept back
        process.kill()
        process.communicate()
        return line

    assert "7301" in in_private(work)


def test_a_port_is_asked_for() -> None:
    def work() -> str:
        process = started("--port", "7302")
        one_close(7303)
        one_close(7302)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=30)[0]

    out = in_private(work)
    assert "7303" not in out
    assert "2 connections ended" in out


def ran(*words: str, **streams: object) -> subprocess.CompletedProcess[str]:
    """Run a trace to its end."""
    usual: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(
        [*TRACE, *words], text=True, env=ENVIRON, timeout=60, check=False, **(usual | streams)
    )  # type: ignore[call-overload]


def test_json_is_a_line_for_each_and_a_summary() -> None:
    def work() -> str:
        return ran("--for", "0.2s", "--json").stdout

    (summary,) = [json.loads(line) for line in in_private(work).splitlines()]
    assert (summary["event"], summary["source"]) == ("summary", "multicast")


def test_a_reader_that_goes_ends_it_quietly() -> None:
    def work() -> tuple[int, str]:
        process = started()
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        for _ in range(100):
            one_close(7304)
            if process.poll() is not None:
                break
            time.sleep(0.05)
        return process.wait(timeout=30), process.stderr.read()

    assert in_private(work) == (0, "")


def test_a_full_disk_is_one_sentence() -> None:
    def work() -> tuple[int, str]:
        with open("/dev/full", "w") as full:
            done = ran("--for", "0.2s", stdout=full)
        return done.returncode, done.stderr

    code, err = in_private(work)
    assert code == 3
    assert "No space left" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_accident(closed: str) -> None:
    def work() -> tuple[int, str]:
        shut: Callable[[], None] = lambda: os.close(1 if closed == "stdout" else 2)  # noqa: E731
        done = ran("--for", "0.2s", **{closed: None, "preexec_fn": shut})
        return done.returncode, (done.stdout or "") + (done.stderr or "")

    code, text = in_private(work)
    assert code == 0
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--for", "0"), "not a time above 0"),
        (("--for", "-5s"), "not a time above 0"),
        (("--for", "nan"), "not a time above 0"),
        (("--for", "5 fortnights"), "not a time above 0"),
        (("--for", "9" * 400), "not a time above 0"),
        (("--port", "0"), "--port needs a whole number from 1 to 65535, not 0"),
        (("--process", "nginx"), "which process closes is not to be seen"),
        (("--nope",), "twdiag trace has no option --nope"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: tuple[str, ...], said: str) -> None:
    done = forked(*TRACE[3:], *words)
    assert (done.code, done.out) == (3, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_times_are_understood() -> None:
    known = {"30s": 30, "5m": 300, "1h": 3600, "90": 90, "1.5s": 1.5, "250ms": 0.25, "2min": 120}
    assert {text: parse_time(text) for text in known} == known
    with pytest.raises(UsageError, match="not a time"):
        parse_time("")
