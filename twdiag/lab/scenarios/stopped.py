"""A server that a signal has stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import ask_and_go, halt, serve, wait_for_state, watch_first

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 5


def build(stage: Stage) -> None:
    """Stop a server that watches its five connections, and let the clients ask and go."""
    server, client = serve(stage, CLIENTS)
    server.do(watch_first, CLIENTS)
    server.do(halt)
    wait_for_state(stage, "server", "T")
    ask_and_go(stage, client, CLIENTS)


SCENARIO = Scenario(
    name="stopped",
    summary="5 connections of a stopped server are closed by their clients, unread",
    teaches=(
        "Ctrl-Z, kill -STOP or a debugger stops every thread of a process, and the kernel goes on: "
        "it accepts, acknowledges data and FINs, and leaves all of it in the sockets.  To the "
        "clients the server hangs.  Its state in /proc/PID/status is T (stopped) or t (held by a "
        "debugger, whose TracerPid stands there); kill -CONT lets a stopped one go on."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "warning", {"close_wait": CLIENTS}),),
    settle=12.0,
)
