"""A client that has finished sending and waits for a server that never ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, listen, meet, shut
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Half-close five connections to a server that keeps its side open."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    server.do(listen, address)
    meet(client, server, 5, address)
    client.do(shut)
    stage.wait_for({State.FIN_WAIT2: 5})


SCENARIO = Scenario(
    name="half-close",
    summary="a client half-closed 5 connections 12 seconds ago; the server does not close",
    teaches=(
        "shutdown(SHUT_WR) sends the FIN and keeps the socket for reading.  The server's kernel "
        "acknowledged it, so the client is in FIN_WAIT2 and the server in CLOSE_WAIT; the server's "
        "program must act.  A FIN_WAIT2 whose program still holds the socket has no time limit: "
        "net.ipv4.tcp_fin_timeout counts after close() only."
    ),
    build=build,
    expects=(Expected("peer-never-closes", "notice", {"fin_wait2": 5}),),
    settle=12.0,
)
