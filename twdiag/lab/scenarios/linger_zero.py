"""A server that resets its connections in place of closing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, abort, close, converse, listen, meet
from twdiag.lab.scenario import Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 30 connections at the server with SO_LINGER 0."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 30)
    converse(client, server)
    server.do(abort)
    client.do(close)
    stage.wait_for({State.ESTABLISHED: 0, State.TIME_WAIT: 0})


SCENARIO = Scenario(
    name="linger-zero",
    summary="30 connections ended by RST: no TIME_WAIT, and no safe close either",
    teaches=(
        "close() after SO_LINGER with a timeout of 0 sends a RST in place of the FIN.  Both ends "
        "forget the connection at once, so no TIME_WAIT remains; but data on the way is lost and "
        "the peer sees ECONNRESET in place of the end of the stream.  It hides TIME_WAIT at the "
        "price of broken responses."
    ),
    build=build,
)
