"""What twdiag says of the servers on a stage, run as its users run it; clients that give up."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.running import SOURCE
from tests.software.stage import HERE, count, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE: Final = 5432
_OLD: Final = 11.0
"""Seconds after which a CLOSE_WAIT is old enough for a finding."""

# Each sentence that says of a server that it does not do its work.
_STUCK: Final = re.compile(r"workers? waits? |on a CPU all the time|nobody |stopped|in disk sleep")


class Said(NamedTuple):
    """A finding: its rule, its processes, what they wait for in words, what to run and do next."""

    rule: str
    pids: tuple[int, ...]
    waits: tuple[str, ...]
    commands: tuple[str, ...]
    advice: tuple[str, ...]
    how: tuple[str, ...]

    @property
    def why(self) -> str:
        """The first sentence: the conclusion where there is one."""
        return self.waits[0] if self.waits else ""

    @property
    def now(self) -> str:
        """The command of the first screen."""
        return self.commands[0] if self.commands else ""

    @property
    def calls_it_stuck(self) -> bool:
        """Whether it says of a server that it does not do its work."""
        return any(_STUCK.search(line) for line in self.waits)


def diagnose(*words: str) -> list[Said]:
    """Return what `twdiag diagnose --json` finds in this namespace."""
    # Isolated: PYTHONPATH is for the program that is tried.
    start = f"import sys; sys.path.insert(0, {SOURCE!r}); from twdiag.cli import main; main()"
    command = [sys.executable, "-I", "-c", start, "diagnose", "--json", "--this-netns", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [_said(finding) for finding in json.loads(done.stdout)["findings"]]


def _said(finding: dict[str, Any]) -> Said:
    commands = tuple(step["run"] for step in finding["steps"])
    advice = tuple(item["do"] for item in finding["advice"])
    pids, waits = tuple(finding["pids"]), tuple(finding["waits"])
    how = tuple(item["how"] or "" for item in finding["advice"])
    return Said(finding["rule"], pids, waits, commands, advice, how)


def of_rule(said: list[Said], rule: str) -> Said:
    """Return the finding of a rule."""
    found = [one for one in said if one.rule == rule]
    assert found, said
    return found[0]


def give_up(port: int, clients: int, path: str = "/") -> None:
    """Let some clients ask and leave without an answer; return once that is long ago.

    Each waits until the server has its request, or has left it in its accept queue.
    """
    for done in range(clients):
        with socket.create_connection((HERE, port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            time.sleep(0.1)
        assert eventually(lambda least=done: count("CLOSE_WAIT", port) > least)  # type: ignore[misc]
    time.sleep(_OLD)


@contextmanager
def busy(port: int, clients: int, path: str = "/") -> Iterator[list[bytes]]:
    """Let clients ask again and again, each over a new connection; yield the answers."""
    over = threading.Event()
    answers: list[bytes] = []

    def ask() -> None:
        until = time.monotonic() + 60
        while not over.is_set() and time.monotonic() < until:
            with suppress(OSError), closing(socket.create_connection((HERE, port), 5)) as client:
                client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                if answer := client.recv(1 << 16):
                    answers.append(answer)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        assert eventually(lambda: len(answers) > clients, 20), f"{len(answers)} answers"
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join(6)


def never_stuck(port: int, clients: int, path: str = "/", looks: int = 8) -> int:
    """Look at a busy server a few times; return how many findings looked closer, none says "stuck".

    Between two looks it has answered: it was at work all the time.
    """
    findings = 0
    with busy(port, clients, path) as answers:
        for _ in range(looks):
            before = len(answers)
            said = diagnose()
            stuck = [one for one in said if one.calls_it_stuck]
            assert not stuck, stuck
            findings += sum(bool(one.waits) for one in said)
            assert eventually(lambda least=before: len(answers) > least, 10)  # type: ignore[misc]
    return findings
