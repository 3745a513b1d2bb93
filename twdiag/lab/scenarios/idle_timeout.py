"""A server that closes idle connections after a time, with as many coming as it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.idle_connections import (
    SECONDS,
    connect_steadily,
    reset_after,
    server_and_client,
)

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let 20 connections a second come, and reset each after 3 s of silence."""
    server, client = server_and_client(stage, "server", 110)
    server.do(reset_after, 3)
    client.do(connect_steadily, 400, 20)


SCENARIO = Scenario(
    name="idle-timeout",
    summary="20 connections a second come to a server that closes idle ones after 3 s",
    teaches=(
        "With an idle timeout the times since data last moved are spread evenly too, from now to "
        "the timeout, and more than half of the descriptors are in use.  But the number stays: "
        "the oldest is as old as the timeout, not as old as the process.  Two samples show the "
        "same."
    ),
    build=build,
    settle=SECONDS,
    limits={"idle-age": 2.0},
)
