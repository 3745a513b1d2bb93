"""A database with hundreds of idle connections, which its clients keep for later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import connect, end_with_reset
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.idle_connections import LIMITS, SECONDS, server_and_client
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Open 500 connections at a server that may open 900 files, and do nothing with them."""
    _, client = server_and_client(stage, "database", 900)
    client.do(connect, 500, MAIN_ADDRESS)
    client.do(end_with_reset)
    stage.wait_for({State.ESTABLISHED: 500})


SCENARIO = Scenario(
    name="idle-database",
    summary="500 connections to a database are idle, and it may open 900 files",
    teaches=(
        "Pools open their connections at the start and keep them: idle for hours, without "
        "keepalive perhaps, and more than half of the server's descriptors.  No leak: they came "
        "together and do not become more, so the times since data last moved are all alike."
    ),
    build=build,
    settle=SECONDS,
    limits=LIMITS,
)
