"""memcached: what it does at its connection limit, and its queue."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack

from tests.software.stage import HERE, Stage, backlog, count, eventually, program


def memcached(stage: Stage, *words: str) -> None:
    """Start memcached on 11211."""
    path = program("memcached", "memcached")
    stage.start(path, "-u", "nobody", "-l", HERE, "-p", "11211", *words, port=11211)


def try_the_queue(stage: Stage) -> str:
    memcached(stage)
    assert backlog(11211) == 1024
    return "the queue is 1024 long"


def try_the_connection_limit(stage: Stage) -> str:
    memcached(stage, "-c", "32")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((HERE, 11211), timeout=3))
            for _ in range(60)
        ]
        time.sleep(0.5)
        refused = [c.recv(100) for c in select.select(clients, [], [], 0)[0]]
    assert refused
    assert all(b"ERROR" in answer for answer in refused), refused
    assert eventually(lambda: count("TIME_WAIT", 11211) == len(refused))
    return f"-c 32: {len(refused)} of 60 clients get an error, and memcached closes first"
