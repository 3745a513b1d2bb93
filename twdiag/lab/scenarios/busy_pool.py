"""A pool that uses its connections in turn and fills more than half of a server's descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import connect, end_with_reset
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.idle_connections import SECONDS, server_and_client, use_in_turn
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Open 100 connections at a server that may open 160 files, and use one after the other."""
    _, client = server_and_client(stage, "server", 160)
    client.do(connect, 100, MAIN_ADDRESS)
    client.do(use_in_turn, 2)
    client.do(end_with_reset)
    stage.wait_for({State.ESTABLISHED: 100})


SCENARIO = Scenario(
    name="busy-pool",
    summary="a pool uses its 100 connections in turn, each one every 2 s",
    teaches=(
        "A pool that takes its connections in turn spreads the times since data last moved evenly "
        "as well, from now to one round.  A round is short against the life of the process, and "
        "the number of connections stays what it is."
    ),
    build=build,
    settle=SECONDS,
    limits={"idle-age": 1.0},
)
