"""A server that closes every connection itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, converse, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Answer 23 clients and close at once; the clients follow."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 23)
    converse(client, server)
    close_first(server, client)
    stage.wait_for({State.TIME_WAIT: 23})


SCENARIO = Scenario(
    name="server-closes-first",
    summary="a server without keep-alive closes 23 connections before its clients do",
    teaches=(
        "Whoever sends the first FIN is the active closer and keeps the connection in TIME_WAIT "
        "for 60 seconds after the close; the other end forgets it at once.  Here the server closes "
        "after every response, as with keep-alive off, so all 23 TIME_WAITs stand at its port.  "
        "They cost little memory and block no client, but each new request costs a new handshake."
    ),
    build=build,
    expects=(Expected("server-closes-first", "notice", {"time_wait": 23}),),
)
