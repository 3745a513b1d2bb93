"""`twdiag sockets` on the command line: streams, exit codes, and how much memory it takes."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.test_diagnose import text_of
from tests.packaging.test_man import parsed_by_typer
from tests.running import NOBODY, forked, process, twdiag
from twdiag.render.pieces import Detail

from .test_streams import TWDIAG, shell, told

if TYPE_CHECKING:
    from tests.conftest import Played

ALL: Final = ("", "--json", "--csv", "--top 5")


@pytest.fixture
def server() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_listener_is_listed_with_its_process(server: socket.socket) -> None:
    port = server.getsockname()[1]
    said = twdiag("sockets", "--port", str(port))
    assert (said.code, said.err) == (0, "")
    head, line = said.out.splitlines()
    assert head.split()[:3] == ["STATE", "ROLE", "FIRST"]
    assert line.split()[0] == "LISTEN"
    assert f"/{os.getpid()}" in line


def test_json_and_csv_tell_the_same(server: socket.socket) -> None:
    port = str(server.getsockname()[1])
    (told,) = map(json.loads, twdiag("sockets", "--port", port, "--json").out.splitlines())
    (cells,) = csv.DictReader(io.StringIO(twdiag("sockets", "--port", port, "--csv").out))
    assert [p["pid"] for p in told["processes"]] == [os.getpid()] == [int(cells["pids"])]
    assert (
        (told["state"], told["role"]) == (cells["state"], cells["role"]) == ("LISTEN", "listener")
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--state CLOSE_WIAT", "there is no state 'CLOSE_WIAT'; did you mean 'CLOSE_WAIT'?"),
        ("--peer nope", "--peer 'nope' is no address, network or port"),
        ("--rule close-wait", "there is no rule 'close-wait'"),
        ("--port http", "--port needs a whole number from 1 to 65535, not 'http'"),
        ("--top 0", "--top needs a whole number from 1 to 100000, not 0"),
        ("--json --csv", "--json and --csv exclude each other"),
        ("--sort size", "--sort needs one of age, left, recv-q"),
        ("--netns nope", "there is no network namespace or container 'nope'"),
        ("--stat LISTEN", "twdiag sockets has no option --stat; did you mean --state?"),
        ("8080", "twdiag sockets does not know what to do with '8080'"),
    ],
)
def test_a_mistake_is_a_sentence_with_a_next_step(words: str, what: str) -> None:
    said = forked("sockets", *words.split())
    assert (said.code, said.out) == (3, "")
    assert said.err.splitlines()[0].startswith(f"twdiag: {what}")
    assert len(said.err.splitlines()) == 2


@pytest.mark.parametrize("words", ALL)
def test_a_full_disk_is_3_and_a_reader_that_has_gone_0(words: str) -> None:
    done = told(f"sockets {words}", ">/dev/full", real="sockets ")
    assert done.code == 3
    assert done.err.splitlines()[0] == "twdiag: it cannot go on: No space left on device"
    assert told(f"sockets {words}", ">/dev/full 2>&-", real="sockets ").code == 3
    done = told(f"sockets {words}", ">|", real="sockets ")
    assert (done.code, done.err) == (0, "")


def test_closed_streams_are_no_traceback() -> None:
    for closed, code in (("2>&-", 0), (">&-", 3), (">&- 2>&- <&-", 3)):
        done = shell(f"{TWDIAG} sockets {closed}")
        assert done.returncode == code
        assert "Traceback" not in done.stdout + done.stderr


def test_without_root_the_rows_are_there_and_unseen_owners_are_said_once(
    server: socket.socket, open_twdiag: str
) -> None:
    port = server.getsockname()[1]
    other = socket.create_server(("127.0.0.2", port))
    said = process(*NOBODY, open_twdiag, "sockets", "--port", str(port), "--json")
    other.close()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert (said.code, len(rows)) == (0, 2)
    assert {row["processes"] for row in rows} == {None}
    assert said.err.startswith("twdiag: the owners of 2 sockets are not visible: ")
    assert len(said.err.splitlines()) == 1


MEASURE: Final = """
import json, os, subprocess, sys
from tests.bench import sockets
sockets.enter_namespace()
with sockets.time_waits("mixed", int(sys.argv[1]), 2):
    for words in json.loads(sys.argv[2]):
        command = [sys.executable, "-m", "twdiag", "sockets", *words]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        lines = sum(1 for line in child.stdout)
        _, status, used = os.wait4(child.pid, 0)
        print(lines, status, used.ru_maxrss)
"""
FORMATS: Final = ([], ["--csv"], ["--top", "5"])


def peaks_of(rows: int) -> list[int]:
    """Return the peak memory of each format in KiB where so many sockets are in TIME_WAIT."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(rows), json.dumps(FORMATS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if "private network namespace" in done.stderr:
        pytest.skip("this machine allows no private network namespace")
    assert done.returncode == 0, done.stderr
    told = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [status for _, status, _ in told] == [0] * len(FORMATS), (told, done.stderr)
    assert all(lines > rows for lines, _, _ in told[:-1]), told
    assert told[-1][0] == 6
    return [peak for _, _, peak in told]


def test_ten_times_as_many_rows_take_no_more_memory() -> None:
    for few, many in zip(peaks_of(3_000), peaks_of(30_000), strict=True):
        assert many < 1.15 * few


def test_the_commands_that_a_report_shows_make_sense(played: dict[str, Played]) -> None:
    shown = {
        line.partition("twdiag sockets")[2].split("  ")[0]
        for play in played.values()
        for detail in (Detail.NORMAL, Detail.FULL)
        for line in text_of(play, detail=detail).splitlines()
        if "twdiag sockets" in line
    }
    assert len(shown) > 15
    for words in shown:
        parsed_by_typer(["sockets", *shlex.split(words)])
