"""Open connections whose other end is no longer reached while data is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import (
    REQUEST,
    Program,
    converse,
    end_with_reset,
    listen,
    meet,
    send,
    turn_deaf,
)
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Send a request on each of six pooled connections to a peer that has stopped receiving."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    server.do(listen, address)
    meet(client, server, 6, address)
    converse(client, server)
    server.do(turn_deaf)
    server.do(end_with_reset)
    client.do(end_with_reset)
    client.do(send, REQUEST)
    stage.wait_for({State.ESTABLISHED: 6})


SCENARIO = Scenario(
    name="data-unanswered",
    summary="6 pooled connections repeat a request to a peer that drops it",
    teaches=(
        "An open connection has no way to know that its peer is gone: it waits for the "
        "acknowledgement of what it sent, and sends it again, after 0.2 s, 0.4 s, 0.8 s and so on "
        "up to two minutes.  The state stays ESTABLISHED for 15 minutes or more "
        "(net.ipv4.tcp_retries2), and so long the program waits for its answer, unless it set a "
        "timeout.  A new connection may work at once.  ss -to shows it: timer:(on,...)."
    ),
    build=build,
    expects=(Expected("data-unanswered", "warning", {"unanswered": 6, "alive": 0}),),
    settle=4.0,
    limits={"data-unanswered-retries": 3},
)
