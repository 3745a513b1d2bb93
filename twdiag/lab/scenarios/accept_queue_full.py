"""A server that stopped calling accept(), with live clients in its full queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import REQUEST, Program, connect, listen, send
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Fill the accept queue with clients that send a request and wait."""
    stage.peer()
    server, client = Program(stage, "frozen"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS, backlog=5)
    client.do(connect, 6, MAIN_ADDRESS)
    client.do(send, REQUEST)
    stage.wait_for({State.ESTABLISHED: 6})


SCENARIO = Scenario(
    name="accept-queue-full",
    summary="6 clients wait for 6 s in the full accept queue of a server that is frozen",
    teaches=(
        "To its client a connection in the accept queue is open: the handshake is done, the "
        "request is sent and acknowledged.  No process holds it (inode 0), so nobody will answer. "
        "ss -ltn shows how many wait (Recv-Q) but not for how long; the kernel knows when data "
        "was last sent on each connection, and before accept() that is never."
    ),
    build=build,
    expects=(Expected("accept-queue-full", "warning", {"accept_queue": 6, "backlog": 5}),),
    settle=6.0,
)
