"""Connections that get no answer to their first segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, call_out, listen, turn_deaf
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Begin six connections to a listener that drops SYNs."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    server.do(listen, address)
    server.do(turn_deaf)
    client.do(call_out, 6, address)
    stage.wait_for({State.SYN_SENT: 6})


SCENARIO = Scenario(
    name="syn-unanswered",
    summary="6 connection attempts repeat their SYN to a peer that drops it",
    teaches=(
        "The first step of the opening handshake has no answer: neither SYN+ACK nor the RST of a "
        "closed port.  Something on the way or at the peer drops the SYN, such as a firewall or a "
        "full accept queue.  connect() fails with ETIMEDOUT after net.ipv4.tcp_syn_retries "
        "retransmissions, after one to two minutes by default."
    ),
    build=build,
    expects=(Expected("syn-unanswered", "notice", {"syn_sent": 6}),),
    settle=4.0,
)
