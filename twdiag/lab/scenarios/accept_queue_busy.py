"""A server with live clients in its accept queue, as a look meets them on any busy host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import REQUEST, Program, connect, listen, send
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let clients connect that the server has not come round to yet."""
    stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS, backlog=64)
    client.do(connect, 40, MAIN_ADDRESS)
    client.do(send, REQUEST)
    stage.wait_for({State.ESTABLISHED: 40})


SCENARIO = Scenario(
    name="accept-queue-busy",
    summary="40 clients have just come to a server whose accept queue holds 65",
    teaches=(
        "Connections pass through the accept queue, so on a busy server some are in it at any "
        "instant.  A queue that is neither full nor old says nothing: what matters is whether SYNs "
        "are dropped, and for how long the oldest connection has waited."
    ),
    build=build,
)
