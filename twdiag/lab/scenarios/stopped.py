"""A server that a signal has stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import halt, wait_for_state, watch_first
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 5


def build(stage: Stage) -> None:
    """Stop a server that watches its five connections, and let the clients ask and go."""
    stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS)
    meet(client, server, CLIENTS, MAIN_ADDRESS)
    server.do(watch_first, CLIENTS)
    server.do(halt)
    wait_for_state(stage, "server", "T")
    client.do(close, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})


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
