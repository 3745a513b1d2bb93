"""A server without an idle timeout whose clients come, ask once and keep the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.idle_connections import (
    LIMITS,
    SECONDS,
    connect_steadily,
    server_and_client,
)

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let ten connections a second come to a server that may open 200 files, and stay."""
    _, client = server_and_client(stage, "leaky", 200)
    client.do(connect_steadily, 130, 10)


SCENARIO = Scenario(
    name="idle-established-leak",
    summary="10 connections a second come to a server, and nobody uses or closes them",
    teaches=(
        "ESTABLISHED says nothing of use: a connection that both ends have forgotten looks like "
        "one that is busy.  The kernel knows when data last moved on it (lastsnd and lastrcv of "
        "ss -ti).  Where connections come at a steady pace and none is closed, these times are "
        "spread evenly from now to the first of them, and the process fills its descriptors."
    ),
    build=build,
    expects=(Expected("idle-established-leak", "warning", {"fd_limit": 200}),),
    settle=SECONDS,
    limits=LIMITS,
)
