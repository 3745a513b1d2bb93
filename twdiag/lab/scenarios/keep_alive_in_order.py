"""The same server with a client that gives idle connections up before the server closes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.keeping import IDLE_TIMEOUT, set_up

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let a client use pooled connections after pauses, with half of the server's idle timeout."""
    set_up(stage, limit=IDLE_TIMEOUT / 2)


SCENARIO = Scenario(
    name="keep-alive-in-order",
    summary="a client gives idle connections up after 0.3 s, before the server closes them",
    teaches=(
        "The client closes a pooled connection once it was idle for 0.3 s, and the server would "
        "wait for 0.6 s. So the end that sends requests decides, which knows that it is not about "
        "to send one: no request ever meets a close. The client opens a new connection where it "
        "needs one, and keeps the few TIME_WAITs: this pair is healthy."
    ),
    build=build,
    interval=4.0,
)
