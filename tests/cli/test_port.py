"""`twdiag port` on the command line: what it writes and how it ends."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading

import pytest

from tests.cli.pseudo import Pseudo
from tests.running import forked, twdiag
from tests.sources.live.namespaces.dwellers import dweller


@pytest.fixture
def server() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_listener_is_named_with_its_process(server: socket.socket) -> None:
    port = server.getsockname()[1]
    said = twdiag("port", str(port))
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Port {port} is taken: ")
    assert f"(pid {os.getpid()}) listens on 127.0.0.1" in said.out.splitlines()[0]
    assert max(map(len, said.out.splitlines())) <= 100


def on_terminal(columns: int, *words: str) -> list[str]:
    """Return the lines that twdiag writes to a terminal."""
    command = (sys.executable, "-m", "twdiag", *words)
    with Pseudo(*command, columns=columns, lines=15) as terminal:
        terminal.end()
        return terminal.written.decode().replace("\r", "").splitlines()


@pytest.mark.parametrize("words", [("port",), ("doctor",)])
def test_a_narrow_terminal_cuts_nothing(words: tuple[str, ...], server: socket.socket) -> None:
    if words == ("port",):
        words = ("port", str(server.getsockname()[1]))
    accepting = threading.Thread(target=server.accept)  # or it is told that nobody does
    accepting.start()
    try:
        lines = on_terminal(60, *words)
        said = twdiag(*words).out  # in a pipe nothing is wrapped
    finally:
        socket.create_connection(server.getsockname()).close()
        accepting.join()
    assert max(map(len, lines)) <= 60
    assert max(map(len, said.splitlines())) > 60
    words_of = (set(re.findall(r"[A-Za-z_]{3,}", text)) for text in ("\n".join(lines), said))
    shown, whole = words_of
    assert whole - shown <= {"the"}  # "if old had it" stands for "if the old had it"


def test_json_is_for_programs(server: socket.socket) -> None:
    port = server.getsockname()[1]
    told = json.loads(twdiag("port", str(port), "--json").out)
    assert told["schema"] == "twdiag-port/1"
    assert told["verdict"] == "blocked"
    assert [p["pid"] for p in told["holders"][0]["processes"]] == [os.getpid()]


def test_a_port_is_that_of_the_namespace_asked_for() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may enter")
    with dweller(lambda: socket.create_server(("127.0.0.1", 7995))) as pid:
        inside = twdiag("port", "7995", "--netns", str(pid))
        outside = twdiag("port", "7995")
    assert "is taken" in inside.out
    assert f"(pid {pid})" in inside.out
    assert f" To look           nsenter -t {pid} -n ss -Htanp 'sport = :7995'\n" in inside.out
    assert " To look           ss -Htanp 'sport = :7995'\n" in outside.out
    assert outside.out.startswith("Port 7995 is free")


@pytest.mark.parametrize(
    "words", [("port",), ("port", "0"), ("port", "65536"), ("port", "http"), ("port", "80", "81")]
)
def test_words_that_make_no_sense_end_with_3(words: tuple[str, ...]) -> None:
    said = forked(*words)
    assert said.code == 3
    assert said.out == ""
    assert "Traceback" not in said.err


def test_a_namespace_that_is_not_there_is_an_error() -> None:
    said = forked("port", "80", "--netns", "no-such-namespace")
    assert said.code == 3
    assert "no network namespace or container 'no-such-namespace'" in said.err
