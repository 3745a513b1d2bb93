"""Processes that a test forks, and what of the host's they may see."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from twdiag.lab import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Start children that do something and then wait; they end with the test."""
    pids = []

    def start(work: Callable[[], object]) -> int:
        parent = os.getpid()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                kernel.die_with_parent(parent, signal.SIGKILL)
                work()
                os.write(writing, b"!")
                signal.pause()
            finally:
                os._exit(1)
        pids.append(pid)
        os.close(writing)
        ready = os.read(reading, 1)
        os.close(reading)
        assert ready == b"!"
        return pid

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let /proc list these processes and no other."""
    real = os.listdir

    def let(*pids: int) -> None:
        names = [str(pid) for pid in pids]
        monkeypatch.setattr(os, "listdir", lambda path: names if path == "/proc" else real(path))

    return let


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each descriptor that is read, as its path."""
    paths: list[str] = []
    real = os.readlink

    def readlink(path: str, *, dir_fd: int | None = None) -> str:
        folder = "" if dir_fd is None else real(f"/proc/self/fd/{dir_fd}") + "/"
        paths.append(folder + path)
        return real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", readlink)
    return paths
