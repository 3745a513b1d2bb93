"""A server that ended and cannot bind its port again for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, converse, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close five connections at the server first and end the server."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 5)
    converse(client, server)
    close_first(server, client)
    server.leave()
    stage.wait_for({State.TIME_WAIT: 5, State.LISTEN: 0})


SCENARIO = Scenario(
    name="restart-blocked",
    summary="a server ended; 5 TIME_WAITs on its port block the next bind()",
    teaches=(
        "A TIME_WAIT keeps its local address and port, and bind() to them fails with EADDRINUSE "
        "until the last one is gone, at most 60 seconds and a little.  Servers set SO_REUSEADDR to "
        "bind all the same; it works only if the old sockets had it too, which they inherit from "
        "their listener."
    ),
    build=build,
    expects=(Expected("restart-blocked", "notice", {"sockets": 5}),),
)
