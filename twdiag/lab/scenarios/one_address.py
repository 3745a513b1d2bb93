"""A server on one address, and a client's TIME_WAIT on the same port of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import (
    HERE,
    PORT,
    Program,
    accept,
    close_first,
    connect,
    converse,
    listen,
    meet,
)
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 23 connections at the server, and one elsewhere that a client made from port 8080."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen, "127.0.0.2")
    meet(client, server, 23, "127.0.0.2")
    converse(client, server)
    close_first(server, client)

    backend, caller = Program(stage, "backend"), Program(stage, "caller")
    backend.do(listen, HERE, 9090)
    caller.do(connect, 1, HERE, 9090, source=(HERE, PORT))
    backend.do(accept, 1)
    close_first(caller, backend)
    stage.wait_for({State.TIME_WAIT: 24})


SCENARIO = Scenario(
    name="one-address",
    summary="23 closes of a server on 127.0.0.2, and a client's TIME_WAIT at 127.0.0.1",
    teaches=(
        "A listener on 127.0.0.2:8080 owns that address and port only.  The TIME_WAIT at "
        "127.0.0.1:8080 comes from a client that chose 8080 as its own port, and does not belong "
        "to the server: the port alone is not enough to tell who closed first."
    ),
    build=build,
    expects=(Expected("server-closes-first", "notice", {"time_wait": 23}),),
)
