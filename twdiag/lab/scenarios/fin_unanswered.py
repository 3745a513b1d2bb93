"""Closed connections whose other end is no longer reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, end_with_reset, listen, meet, turn_deaf
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close six connections to a peer that has stopped receiving."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    server.do(listen, address)
    meet(client, server, 6, address)
    server.do(turn_deaf)
    server.do(end_with_reset)
    client.do(close)
    stage.wait_for({State.FIN_WAIT1: 6})


SCENARIO = Scenario(
    name="fin-unanswered",
    summary="6 closed connections repeat their FIN to a peer that drops it",
    teaches=(
        "FIN_WAIT1 lasts until the peer's kernel acknowledges the FIN: a round trip.  It does not "
        "need the peer's program, so a FIN_WAIT1 that retransmits means that segments are lost on "
        "the way, as behind a firewall that forgot the connection or on a host that is gone.  An "
        "orphan gives up after 8 retries (net.ipv4.tcp_orphan_retries): 102 to 205 seconds by the "
        "round-trip time."
    ),
    build=build,
    expects=(Expected("fin-unanswered", "warning", {"unanswered": 6}),),
    settle=4.0,
)
