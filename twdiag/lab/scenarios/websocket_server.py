"""A server with a thousand long connections that each say a word now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.idle_connections import (
    LIMITS,
    SECONDS,
    connect_steadily,
    server_and_client,
    use_in_turn,
)

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let 100 connections a second come, and each of them say a word every second."""
    _, client = server_and_client(stage, "websockets", 1500)
    client.do(connect_steadily, 1000, 100)
    client.do(use_in_turn, 1)


SCENARIO = Scenario(
    name="websocket-server",
    summary="1,000 long connections of a server that may open 1,500 files, each with a ping",
    teaches=(
        "A server of long connections has thousands of them, more and more through the day, and "
        "that is its work.  Its pings tell them from forgotten ones: data moves on each every few "
        "seconds, so none is idle for long and vanished clients are noticed."
    ),
    build=build,
    settle=SECONDS,
    limits=LIMITS,
)
