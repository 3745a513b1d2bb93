"""Open connections whose peer is there, and does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, converse, end_with_reset, fill, listen, meet
from twdiag.lab.scenario import Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Send on six connections until the peer's receive buffers are full."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    server.do(listen, address)
    meet(client, server, 6, address)
    converse(client, server)
    server.do(end_with_reset)
    client.do(end_with_reset)
    client.do(fill)
    stage.wait_for({State.ESTABLISHED: 6})


SCENARIO = Scenario(
    name="slow-reader",
    summary="6 connections wait for a peer that is there, and has no room for their data",
    teaches=(
        "A program that does not read fills its receive buffer, and its kernel says so: the window "
        "is zero.  The sender's data stays in its Send-Q, and it asks for room now and then: "
        "timer:(persist,...) in ss.  Each of these probes is acknowledged, so the peer is there; "
        "the connection may wait like that for as long as both programs like: no problem of TCP."
    ),
    build=build,
    settle=4.0,
    limits={"data-unanswered-retries": 3},
)
