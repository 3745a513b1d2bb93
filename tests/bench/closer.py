"""What it costs to look closer at the processes of a finding, beside reading the same files."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.engine.waits import WaitsQuestion, host_names, look_closer
from twdiag.sources.live.processes.waits import PAUSE
from twdiag.sources.live.sockets.netlink import find_sockets

from . import sockets
from .measure import Run, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.model.sockets import Socket

CLOSER: Final = "look closer"
FILES: Final = "read the files"
_THREADS: Final = 4
_DATABASE: Final = 5432
_PATIENCE: Final = 30.0


class _Made(NamedTuple):
    """Processes that leak a CLOSE_WAIT each, while their threads wait for a database."""

    pids: tuple[int, ...]
    leaked: Mapping[int, Socket]


def waits(processes: int, rounds: int, say: Callable[[str], None]) -> Setting:
    """Measure a look at processes of four threads each that are all stuck on an upstream."""
    setting = Setting(
        "waits", "stuck", {"processes": processes, "threads": _THREADS * processes}, (FILES,)
    )
    sockets.enter_namespace()
    say(f"waits: making {processes:,} processes of {_THREADS} threads")
    listener, database = _listener(), _listener(_DATABASE)
    with sockets.children_to_end() as children:
        inodes = [_leak(listener, children) for _ in range(processes)]
        made = _Made(tuple(children), find_sockets(inodes, _PATIENCE))
        _await_rest(made.pids)
        for number in range(rounds):
            setting.runs += [
                _timed(FILES, number, made, _read),
                _timed(CLOSER, number, made, _look),
            ]
    listener.close()
    database.close()
    return setting


def _listener(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=4096)


def _leak(listener: socket.socket, children: list[int]) -> int:
    """Start a process that keeps a connection whose client is gone; return the socket's inode."""
    with socket.create_connection(listener.getsockname()):
        kept, _ = listener.accept()
    with kept:
        children.append(sockets.fork(_wait_for_database))
        return os.fstat(kept.fileno()).st_ino


def _wait_for_database() -> None:
    database = socket.create_connection(("127.0.0.1", _DATABASE))
    for _ in range(_THREADS - 1):
        threading.Thread(target=database.recv, args=(1,), daemon=True).start()
    database.recv(1)


def _await_rest(pids: tuple[int, ...]) -> None:
    """Wait until every process has its threads, and the youngest has come to rest."""
    until = time.monotonic() + _PATIENCE
    while any(len(os.listdir(f"/proc/{pid}/task")) < _THREADS for pid in pids):
        if time.monotonic() > until:
            raise sockets.BenchError("the processes do not come to rest")
        time.sleep(0.05)
    time.sleep(0.2)


def _timed(name: str, number: int, made: _Made, work: Callable[[_Made], None]) -> Run:
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    work(made)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Run(name, number, wall, user, system, after.ru_maxrss * 1024)


def _look(made: _Made) -> None:
    asked = WaitsQuestion(made.pids, made.leaked)
    answers, gaps = look_closer({1: asked}, host_names({}), _PATIENCE)
    told = answers[1].waits
    if gaps or told.threads != _THREADS * len(made.pids):
        raise sockets.BenchError(f"{told.threads} threads were seen, {gaps}")


def _read(made: _Made) -> None:
    """Read the state and the system call of each thread twice, with the same pause."""
    for pause in (PAUSE, 0.0):
        for pid in made.pids:
            for tid in os.listdir(f"/proc/{pid}/task"):
                for name in ("status", "syscall"):
                    with open(f"/proc/{pid}/task/{tid}/{name}", "rb") as file:
                        file.read()
        time.sleep(pause)
