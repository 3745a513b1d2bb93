"""Connections that both ends close at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, hear_again, listen, meet, shut, turn_deaf
from twdiag.lab.scenario import Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let the FINs of ten connections cross.

    Neither end sees the other's first FIN, so that both have closed before the FINs are repeated.
    """
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 10)
    for deed in (turn_deaf, shut, hear_again):
        server.do(deed)
        client.do(deed)
    stage.wait_for({State.TIME_WAIT: 20})
    server.do(close)
    client.do(close)


SCENARIO = Scenario(
    name="simultaneous-close",
    summary="both ends of 10 connections close at once: 20 TIME_WAITs",
    teaches=(
        "When both programs close before either FIN arrives, the FINs cross.  Both ends are active "
        "closers then and both end in TIME_WAIT, mostly by way of CLOSING.  It is rare and "
        "harmless.  Seen from one end only, such a TIME_WAIT looks like any other; here, with both "
        "ends in one table, the pair shows that neither program was the first."
    ),
    build=build,
)
