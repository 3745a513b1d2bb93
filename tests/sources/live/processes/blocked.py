"""Real processes whose threads wait where a test wants them to, and readers of another user."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from twdiag.lab import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

NOBODY = 65534
DEADLINE = 10.0


@contextlib.contextmanager
def blocked(work: Callable[[], None], threads: int = 1, user: int | None = None) -> Iterator[int]:
    """Yield the pid of a process that runs `work`, once so many threads of it are asleep."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.die_with_parent(parent, signal.SIGKILL)
            if user is not None:
                become(user)
                kernel.die_with_parent(parent, signal.SIGKILL)  # setuid() forgot it
            work()
        finally:
            os._exit(1)
    try:
        wait_until(lambda: states(pid).count("S") == threads == len(states(pid)))
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def become(user: int) -> None:
    """Change to another user, and stay a process that its own user may look at."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    kernel.own_proc_files()


def as_user(user: int, look: Callable[[], T]) -> T:
    """Return what a function returns when another user calls it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            become(user)
            with os.fdopen(writing, "wb") as file:
                file.write(pickle.dumps(look()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return cast("T", pickle.loads(data))


def states(pid: int) -> list[str]:
    """Return the state of each thread of a process."""
    found = []
    for tid in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found.append((tid / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline, "the process does not come to rest"
        time.sleep(0.005)
