"""Measure a look at the whole host: `python -m tests.bench.namespaces`.

Namespaces with a few sockets each, alone and beside the TIME_WAITs of one busy namespace, on a host
of their own (no other process or namespace of this machine takes part).  It needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from tests.engine.village import alone
from twdiag.lab import kernel, network

from . import sockets
from .commands import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BASE: Final = ("--this-netns",)
COMMANDS: Final = (BASE, (), ("--json",), ("check", "--all-netns"), ("check",))
_PORT: Final = 8080
_TIME_WAITS: Final = 5


def main(words: Sequence[str] | None = None) -> int:
    """Measure what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.namespaces", description=__doc__)
    parser.add_argument("--namespaces", type=int, default=200, metavar="N")
    parser.add_argument("--time-waits", type=int, default=300_000, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    asked = parser.parse_args(words)
    for title, many, busy in (
        ("no other namespace", 0, 0),
        (f"{asked.namespaces} namespaces", asked.namespaces, 0),
        (
            f"{asked.namespaces} namespaces beside {asked.time_waits:,} TIME_WAITs of one",
            asked.namespaces,
            asked.time_waits,
        ),
    ):
        print(f"\n{title}", flush=True)
        alone(lambda _, many=many, busy=busy: _measure(many, busy, asked.runs))  # type: ignore[misc]
    return 0


def _measure(many: int, busy: int, runs: int) -> None:
    children: list[int] = []
    try:
        if busy:
            children.append(_resident(lambda: _fill(busy)))
        children += [_resident(_settle) for _ in range(many)]
        walls: dict[tuple[str, ...], list[float]] = {words: [] for words in COMMANDS}
        for _ in range(runs):
            for words in COMMANDS:
                walls[words].append(_timed(words))
        base = statistics.median(walls[BASE])
        for words, times in walls.items():
            median = statistics.median(times)
            name = " ".join(("twdiag", *words))
            print(f"  {name:38} {median:6.3f} s {median / base:6.2f} x {' '.join(BASE)}")
        print(f"  {_seen()}", flush=True)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _timed(words: Sequence[str]) -> float:
    begin = time.perf_counter()
    # Of a PID namespace of its own, `check --all-netns` says by 3 that more may be hidden.
    subprocess.run(_twdiag(*words), cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begin


def _twdiag(*words: str) -> list[str]:
    return [sys.executable, "-m", "twdiag", *words]


def _seen() -> str:
    """Return what one more look saw: how many namespaces, the busiest of them, what it left out."""
    done = subprocess.run(_twdiag("--json"), cwd=ROOT, capture_output=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    looked = report["namespaces"]
    most = max((place["sockets"] for place in looked), default=0)
    gaps = [gap["why"] for gap in report["gaps"] if gap["what"] == "namespaces"]
    return f"{len(looked)} looked at, the busiest with {most:,} sockets; {gaps or 'none left out'}"


def _resident(work: Callable[[], object]) -> int:
    """Return the number of a child that has done some work in a namespace of its own."""
    ready, tell = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        try:
            kernel.die_with_parent(parent, signal.SIGKILL)
            network.enter_private()
            kept = work()
            os.write(tell, b".")
            while kept:
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    answer = os.read(ready, 1)
    os.close(ready)
    if not answer:
        raise sockets.BenchError("a namespace could not be filled")
    return child


def _settle() -> list[socket.socket]:
    """Have a listener, a connection and a few TIME_WAITs."""
    kernel.set_name("web")
    server = socket.create_server(("127.0.0.1", _PORT))
    kept = [server]
    for number in range(_TIME_WAITS + 1):
        client = socket.create_connection(("127.0.0.1", _PORT))
        served, _ = server.accept()
        if number:
            served.close()
            client.recv(1)
            client.close()
        else:
            kept += [client, served]
    return kept


def _fill(count: int) -> contextlib.ExitStack:
    """Have so many TIME_WAITs until this process is killed, or their minute is over."""
    kernel.set_name("busy")
    stack = contextlib.ExitStack()
    stack.enter_context(sockets.time_waits("mixed", count, 2))
    return stack


if __name__ == "__main__":
    sys.exit(main())
