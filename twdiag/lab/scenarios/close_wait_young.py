"""Sockets that were in CLOSE_WAIT for a few seconds only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import leave_half_closed
from twdiag.lab.scenario import Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let a program keep five sockets whose clients have just gone."""
    leave_half_closed(stage, "busy", 5)


SCENARIO = Scenario(
    name="close-wait-young",
    summary="5 sockets in CLOSE_WAIT for 3 seconds: perhaps the program is at work",
    teaches=(
        "Every passive closer passes through CLOSE_WAIT: from the arrival of the FIN until its "
        "program calls close().  A program that still works on a request may take its time, and a "
        "half-closed connection may still be written to.  Only age makes a CLOSE_WAIT suspicious."
    ),
    build=build,
    settle=3.0,
)
