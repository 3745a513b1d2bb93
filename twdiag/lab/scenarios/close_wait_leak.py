"""A program that reads to the end of its connections and never closes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import leave_half_closed
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let the program "leaky" keep five sockets whose clients are gone."""
    leave_half_closed(stage, "leaky", 5)


SCENARIO = Scenario(
    name="close-wait-leak",
    summary="a program keeps 5 sockets whose clients closed 12 seconds ago",
    teaches=(
        "The client's FIN arrived and the kernel acknowledged it: the socket is in CLOSE_WAIT, "
        "which means that only the local program can go on.  It read everything (Recv-Q 0) and "
        "then forgot close().  No sysctl ends CLOSE_WAIT, and no timer but keepalive's, which "
        "leaves the file descriptor open until the program closes it or ends.  It is a bug in the "
        "program."
    ),
    build=build,
    expects=(Expected("close-wait-leak", "notice", {"close_wait": 5}),),
    settle=12.0,
)
