"""A server that stopped calling accept()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, connect, listen
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Fill the accept queue with clients that give up."""
    stage.peer()
    server, client = Program(stage, "frozen"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS, backlog=5)
    client.do(connect, 6, MAIN_ADDRESS)
    client.do(close)
    stage.wait_for({State.CLOSE_WAIT: 6})


QUEUE = {"accept_queue": 6, "backlog": 5}

SCENARIO = Scenario(
    name="close-wait-never-accepted",
    summary="6 clients gave up in the accept queue of a server that is frozen",
    teaches=(
        "The kernel completes the opening handshake and acknowledges the FIN without the program. "
        "A connection that nobody accepted waits in the listener's accept queue, in CLOSE_WAIT "
        "and without an owner (inode 0).  The queue holds backlog + 1 connections; now it is "
        "full, the kernel drops further SYNs (ListenOverflows), and new clients time out."
    ),
    build=build,
    expects=(
        Expected("close-wait-never-accepted", "critical", {"close_wait": 6, **QUEUE}),
        Expected("accept-queue-full", "critical", QUEUE),
    ),
    settle=12.0,
)
