"""What programs do in the scenarios about idle connections: threads that open, use and close."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from typing import TYPE_CHECKING, Final

from twdiag.lab.actors import (
    PORT,
    Program,
    end_with_reset,
    in_thread,
    limit_descriptors,
    listen,
    ticks,
)
from twdiag.lab.network import MAIN_ADDRESS

if TYPE_CHECKING:
    from twdiag.lab.actors import Sockets
    from twdiag.lab.stage import Stage

LIMITS: Final = {"idle-age": 8.0}
"""The age of an idle leak for those who do not want to wait for an hour."""

_AT_ONCE: Final = 50

SECONDS: Final = 11.5
"""For how long connections come until the look."""


def server_and_client(stage: Stage, name: str, descriptors: int) -> tuple[Program, Program]:
    """Return a server that accepts and keeps all connections, and a client at the peer."""
    stage.peer()
    server, client = Program(stage, name), Program(stage, "client", peer=True)
    server.do(limit_descriptors, descriptors)
    server.do(listen, MAIN_ADDRESS, backlog=512)
    server.do(accept_always)
    client.do(raise_descriptors)
    return server, client


def raise_descriptors(_: Sockets) -> None:
    """Raise the soft RLIMIT_NOFILE to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def accept_always(sockets: Sockets) -> None:
    """Accept all connections from now on, in a thread."""
    in_thread(_accept, sockets)


def _accept(sockets: Sockets) -> None:
    poll = select.poll()
    for listener in sockets.listening:
        poll.register(listener, select.POLLIN)
    while poll.poll():
        for listener in sockets.listening:
            with contextlib.suppress(BlockingIOError):
                while True:
                    sockets.connected.append(listener.accept()[0])


def connect_steadily(sockets: Sockets, count: int, per_second: float) -> None:
    """Open so many connections at a steady pace, in a thread."""
    in_thread(_connect, sockets, count, per_second)


def _connect(sockets: Sockets, count: int, per_second: float) -> None:
    for _ in ticks(count / per_second, 1 / per_second):
        sockets.connected.append(socket.create_connection((MAIN_ADDRESS, PORT)))
    end_with_reset(sockets)


def use_in_turn(sockets: Sockets, every: float) -> None:
    """Send a word on one connection after the other, each one once in so many seconds."""
    in_thread(_use, sockets, every)


def _use(sockets: Sockets, every: float) -> None:
    while True:
        time.sleep(0.01)
        connections = list(sockets.connected)
        for number, connection in enumerate(connections):
            connection.sendall(b"x")
            if number % _AT_ONCE == 0:
                time.sleep(every * min(1.0, _AT_ONCE / len(connections)))


def reset_after(sockets: Sockets, idle: float) -> None:
    """Reset each connection when it is so old, in a thread: no TIME_WAIT tells of it."""
    in_thread(_reset, sockets, idle)


def _reset(sockets: Sockets, idle: float) -> None:
    since: dict[socket.socket, float] = {}
    while True:
        now = time.monotonic()
        for connection in list(sockets.connected):
            if now - since.setdefault(connection, now) >= idle:
                sockets.connected.remove(connection)
                end_with_reset(type(sockets)(connected=[connection]))
                connection.close()
                del since[connection]
        time.sleep(0.05)
