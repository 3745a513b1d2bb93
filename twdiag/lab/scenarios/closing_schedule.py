"""A server that closes connections by a known schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, listen, meet, ticks
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


PER_SECOND = (3, 7, 2, 11, 0, 13, 5, 17, 1, 19)


def build(stage: Stage) -> None:
    """Close a different number of connections at the server in each second.

    `stage.notes["closes"]` gets the moment of each close, by time.monotonic() and by time.time().
    """
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, sum(PER_SECOND))
    closes = []
    for second, _ in enumerate(ticks(seconds=len(PER_SECOND), each=1.0)):
        for _ in ticks(seconds=0.9, each=0.9 / max(PER_SECOND[second], 1)):
            if PER_SECOND[second]:
                closes += close_first(server, client, 1)
    stage.notes["closes"] = closes
    stage.wait_for({State.TIME_WAIT: sum(PER_SECOND)})


SCENARIO = Scenario(
    name="closing-schedule",
    summary="a server closes 3, 7, 2, 11, 0, 13, 5, 17, 1 and 19 connections a second",
    teaches=(
        "Each TIME_WAIT carries a timer that counts down from 60 seconds, so a single look at the "
        "sockets tells when each connection ended: the history of the last minute, second by "
        "second, without having watched."
    ),
    build=build,
    expects=(Expected("server-closes-first", "notice", {"time_wait": sum(PER_SECOND)}),),
)
