"""`twdiag trace` as its users meet it: lines, signals, pipes, times."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.cli.lasting import ENVIRON, TRACE, ran
from tests.engine import endings
from tests.engine.privately import in_private
from twdiag.cli.times import parse_time
from twdiag.errors import UsageError


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


def test_json_is_a_line_for_each_and_a_summary() -> None:
    def work() -> str:
        return ran(TRACE, "--for", "0.2s", "--json").stdout

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


def test_times_are_understood() -> None:
    known = {"30s": 30, "5m": 300, "1h": 3600, "90": 90, "1.5s": 1.5, "250ms": 0.25, "2min": 120}
    assert {text: parse_time(text) for text in known} == known
    with pytest.raises(UsageError, match="not a time"):
        parse_time("")
