"""Processes that live in private network namespaces of their own while a test looks at them."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sources.live.confinement import become_nobody
from twdiag.errors import SourceRefused
from twdiag.lab import kernel
from twdiag.lab.network import enter_private
from twdiag.sources.live.namespaces.entering import Refused, entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twdiag.model.namespaces import Namespace
    from twdiag.sources.live.namespaces.search import Found


@contextlib.contextmanager
def dweller(
    work: Callable[[], object] | None = None, *, nobody: bool = False, name: str = "dweller"
) -> Iterator[int]:
    """Yield the number of a process in a new network namespace, once it has done some work there.

    What the work returns lives as long as the process.  Skips where no such namespace is allowed.
    """
    ready, tell = os.pipe()
    stay, end = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.die_with_parent(parent, 9)
            os.close(end)
            os.close(ready)
            kernel.set_name(name)
            outcome, kept = _settle(work, nobody)
            os.write(tell, pickle.dumps(outcome))
            os.close(tell)
            os.read(stay, 1)
            del kept
        finally:
            os._exit(0)
    os.close(tell)
    os.close(stay)
    try:
        with os.fdopen(ready, "rb") as pipe:
            problem = pickle.loads(pipe.read())
        if isinstance(problem, SourceRefused):
            pytest.skip(f"{problem.what}; {problem.next_step}")
        if problem is not None:
            raise problem
        yield pid
    finally:
        os.close(end)
        os.waitpid(pid, 0)


def _settle(work: Callable[[], object] | None, nobody: bool) -> tuple[object, object]:
    try:
        if nobody and not become_nobody():
            return SourceRefused("this namespace knows no other user", "run as root"), None
        enter_private()
        return None, work() if work else None
    except Exception as error:
        return error, None


# What dwellers do, and what a test asks of them.


def listen(port: int = 7101) -> socket.socket:
    """Return a listener on loopback."""
    return socket.create_server(("127.0.0.1", port))


def leave_time_waits(count: int = 5, port: int = 7102) -> socket.socket:
    """Listen, and close connections at the server first: that many TIME_WAITs."""
    server = socket.create_server(("127.0.0.1", port))
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
        served.close()
        client.recv(1)
        client.close()
    return server


def ports_listening() -> set[int]:
    """Return the ports that listen in this namespace."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].partition(":")[2], 16) for line in lines if " 0A " in line}


def own_inode() -> int:
    """Return the number of this namespace."""
    return os.stat("/proc/self/ns/net").st_ino


def of(pid: int, found: Found) -> Namespace:
    """Return the namespace of a process among those found."""
    return next(namespace for namespace in found.namespaces if pid in namespace.pids)


def skip_unless_entered(namespace: Namespace) -> None:
    """Skip a test without the right to enter a namespace."""
    try:
        with entered(namespace):
            pass
    except Refused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")
