"""An old worker that keeps its connections after another one has taken the listener over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, converse, drain, listen, meet, stop_listening
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 5
_TICK = 0.02  # processes that start within the same 10 ms have the same start time


def build(stage: Stage) -> None:
    """Replace the worker that has five connections, which their clients close then."""
    stage.peer()
    old, client = Program(stage, "server"), Program(stage, "client", peer=True)
    old.do(listen, MAIN_ADDRESS, shared=True)
    meet(client, old, CLIENTS, MAIN_ADDRESS)
    converse(client, old)
    time.sleep(_TICK)
    new = Program(stage, "server")
    new.do(listen, MAIN_ADDRESS, shared=True)
    old.do(stop_listening)
    client.do(close)
    old.do(drain)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})


SCENARIO = Scenario(
    name="old-worker",
    summary="after a reload an old worker keeps 5 connections that its clients have closed",
    teaches=(
        "A reload without interruption starts new workers, and the old ones stop listening and end "
        "when their last connection does.  One that leaks connections never ends, and each reload "
        "adds another.  The sockets look like those of the service, but the process that has them "
        "listens no more.  Proxies have a time after which an old worker is ended all the same."
    ),
    build=build,
    expects=(Expected("close-wait-leak", "notice", {"close_wait": CLIENTS}),),
    settle=12.0,
)
