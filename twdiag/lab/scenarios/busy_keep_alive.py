"""A healthy server whose clients keep their connections for many requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, converse, listen, meet
from twdiag.lab.scenario import Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Exchange requests on 60 connections, of which the clients close 10."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 60)
    for _ in range(5):
        converse(client, server)
    close_first(client, server, 10)
    stage.wait_for({State.TIME_WAIT: 10, State.ESTABLISHED: 100})


SCENARIO = Scenario(
    name="busy-keep-alive",
    summary="50 kept connections, and 10 that the clients closed themselves",
    teaches=(
        "With keep-alive a connection serves many requests, so there are few closes, and it is the "
        "client that makes them when it is done.  The client is then the active closer and keeps "
        "the TIME_WAIT; the server keeps nothing.  A few TIME_WAITs are how TCP works: no problem."
    ),
    build=build,
)
