"""A server that closes idle connections, and a client that keeps some in a pool."""

from __future__ import annotations

import select
import socket
import threading
import time
from itertools import cycle
from typing import TYPE_CHECKING, Final

from twdiag.lab.actors import HERE, PORT, RESPONSE, Program, listen, meet
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.lab.actors import Sockets
    from twdiag.lab.stage import Stage

CONNECTIONS: Final = 4
IDLE_TIMEOUT: Final = 0.6
"""When the server closes an idle connection, in seconds."""

_PAUSES: Final = (0.25, 0.45, 0.9)
"""The client's pauses: the last is longer than the server waits."""

_STEP: Final = 0.3
_REQUEST: Final = (
    b"GET /orders/4711 HTTP/1.1\r\nHost: orders.example.com\r\nAccept: application/json\r\n"
    b"User-Agent: checkout/1.4\r\n\r\n"
)
"""No client's last words are as long."""


def set_up(stage: Stage, limit: float | None) -> None:
    """Open the pool; when the look begins, both ends go on, the client with this idle limit."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, CONNECTIONS)
    stage.wait_for({State.ESTABLISHED: 2 * CONNECTIONS})
    stage.later = [
        lambda: server.do(close_idle, IDLE_TIMEOUT),
        lambda: client.do(use_pool, _PAUSES, limit),
    ]


def close_idle(sockets: Sockets, timeout: float) -> None:
    """Answer requests from now on, and close each connection that was idle for so long."""
    threading.Thread(target=_serve, args=(sockets, timeout), daemon=True).start()


def _serve(sockets: Sockets, timeout: float) -> None:
    (listener,) = sockets.listening
    used = dict.fromkeys(sockets.connected, time.monotonic())
    while True:
        due = min(used.values(), default=time.monotonic()) + timeout - time.monotonic()
        ready, _, _ = select.select([listener, *used], [], [], max(0.0, due))
        for end in ready:
            if end is listener:
                used[listener.accept()[0]] = time.monotonic()
            elif end.recv(1 << 16):
                end.sendall(RESPONSE)
                used[end] = time.monotonic()
            else:
                del used[end]
                end.close()
        for end in [end for end, at in used.items() if time.monotonic() - at >= timeout]:
            del used[end]
            end.close()


def use_pool(sockets: Sockets, pauses: tuple[float, ...], limit: float | None) -> None:
    """Use the connections from now on, one after the other and each after these pauses in turn.

    As many pools do, it does not look whether the server has closed before it sends.  With a limit
    it closes a connection itself once it was idle for so long, and opens another when it needs one.
    """
    for number, end in enumerate(sockets.connected):
        plan = cycle(pauses), number * _STEP / len(sockets.connected), limit
        threading.Thread(target=_use, args=(end, *plan), daemon=True).start()


def _use(
    end: socket.socket | None, pauses: Iterator[float], begin: float, limit: float | None
) -> None:
    time.sleep(begin)
    for pause in pauses:
        end = end or socket.create_connection((HERE, PORT))
        if not _answered(end):
            end.close()
            end = socket.create_connection((HERE, PORT))
            _answered(end)
        if limit is not None and limit < pause:
            time.sleep(limit)
            end.close()
            end = None
            pause -= limit
        time.sleep(pause)


def _answered(end: socket.socket) -> bool:
    """Return whether a request over a connection is answered: it may have been closed meanwhile."""
    try:
        end.sendall(_REQUEST)
        return end.recv(1 << 16) == RESPONSE
    except ConnectionError:
        return False
