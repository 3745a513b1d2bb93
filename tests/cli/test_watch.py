"""`twdiag watch` without a terminal: blocks, lines of JSON, signals, pipes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.lasting import ENVIRON, WATCH, ran
from tests.cli.test_watch_screen import PORT, traffic
from tests.engine.privately import in_private
from twdiag.lab.network import enter_private

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Have a watch that has written its first line."""
    process = subprocess.Popen(
        [*WATCH, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRON,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()  # would hang if lines were kept back
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_block_for_each_look_says_all_in_plain_lines() -> None:
    def work() -> tuple[str, str, int]:
        with traffic():
            done = ran(WATCH, "--count", "2")
        return done.stdout, done.stderr, done.returncode

    out, err, code = in_private(work)
    assert (err, code) == ("", 0)
    assert "\x1b" not in out
    blocks = out.strip().split("\n\n")
    assert len(blocks) == 2
    for block in blocks:
        kinds = {line.split()[0] for line in block.splitlines()[1:]}
        assert {"states", "rates", "finding", "budget", "ends", "process"} <= kinds
        assert f"ends     server 127.0.0.1:{PORT}" in block
        assert "TIME_WAIT 12 of" in block
    assert "opened out 0/s" in blocks[1]


def test_json_is_an_object_on_a_line_for_each_look() -> None:
    def work() -> str:
        with traffic():
            return ran(WATCH, "--count", "3", "--json").stdout

    objects = [json.loads(line) for line in in_private(work).splitlines()]
    assert len(objects) == 3
    for found in objects:
        assert found["schema"] == "twdiag-watch/1"
        assert found["time_wait"]["now"] == 12
        servers = [row for row in found["closers"] if row["kind"] == "server"]
        assert [(row["port"], row["time_wait"]) for row in servers] == [(PORT, 7), (PORT + 1, 5)]
        assert found["following"] == {
            "source": None, "note": "--source none", "share_of_time": None, "lost": None,
        }  # fmt: skip
    assert objects[0]["per_second"]["opened_out"]["now"] is None
    assert objects[2]["per_second"]["opened_out"]["now"] == 0


def test_the_keys_of_json_are_told_in_the_man_page() -> None:
    from tests.packaging.test_man import source

    def work() -> dict[str, Any]:
        with traffic():
            return dict(json.loads(ran(WATCH, "--count", "1", "--json").stdout))

    found = in_private(work)
    text = source("twdiag-watch.1").partition(".Ss JSON\n")[2].partition("\n.Sh ")[0]
    words = set(text.replace(",", " ").split())
    inner = {key for part in ("budgets", "closers") for row in found[part] for key in row}
    assert sorted({*found, *found["time_wait"], *found["following"], *inner} - words) == []


@pytest.mark.parametrize(("option", "ports"), [("--port", [PORT]), ("--process", [PORT, PORT + 1])])
def test_only_what_was_asked_for_is_shown(option: str, ports: list[int]) -> None:
    def work() -> list[list[int]]:
        words = [str(PORT)] if option == "--port" else [str(os.getpid()), "no-such-process"]
        with traffic():
            found = [
                json.loads(ran(WATCH, "--count", "1", "--json", option, w).stdout) for w in words
            ]
        return [[r["port"] for r in one["closers"] if r["kind"] == "server"] for one in found]

    asked, *others = in_private(work)
    assert asked == ports
    assert not any(others)


def test_another_namespace_is_watched_from_here() -> None:
    def work() -> tuple[dict[str, Any], int]:
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                enter_private()
                with traffic():
                    os.write(told, b".")
                    time.sleep(60)
            os._exit(0)
        os.close(told)
        try:
            os.read(ready, 1)
            done = ran(WATCH, "--count", "1", "--json", "--netns", str(pid))
            assert done.returncode == 0, done.stderr
            return dict(json.loads(done.stdout)), pid
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    found, pid = in_private(work)
    assert found["netns"] == str(pid)
    assert found["time_wait"]["now"] == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    def work() -> tuple[int, str]:
        with started("--interval", "1h") as process:
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
            return process.returncode, err

    assert in_private(work) == (0, "")


def test_it_ends_after_some_time() -> None:
    def work() -> tuple[int, float]:
        began = time.monotonic()
        code = ran(WATCH, "--for", "0.5s", "--interval", "1h").returncode
        return code, time.monotonic() - began

    code, seconds = in_private(work)
    assert code == 0
    assert seconds >= 0.5


def test_a_reader_that_goes_ends_it_quietly() -> None:
    def work() -> tuple[int, str]:
        with started() as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            return process.wait(timeout=30), process.stderr.read()

    assert in_private(work) == (0, "")


def test_a_dumb_terminal_gets_plain_blocks() -> None:
    from tests.cli.pseudo import watch

    def work() -> tuple[int, bytes]:
        with watch("--count", "1", TERM="dumb") as terminal:
            code = terminal.end()
            return code, terminal.written

    code, written = in_private(work)
    assert code == 0
    assert b"states   TIME_WAIT" in written
    assert b"\x1b" not in written


def test_a_plain_block_loads_no_heavy_package() -> None:
    from tests.test_architecture import loaded_by

    loaded = loaded_by("watch", "--count", "1", "--source", "none", "--json")
    assert not loaded & {"rich", "pyroute2", "asyncio"}
