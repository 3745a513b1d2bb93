"""A loop whose sockets have descriptors that select() cannot watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, limit_descriptors, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import (
    ask_and_go,
    open_descriptors,
    wait_for_threads,
    watch_by_select,
)
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 8


def build(stage: Stage) -> None:
    """Let a server with 1,024 descriptors accept eight more, and wait in select()."""
    stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client", peer=True)
    server.do(limit_descriptors, 2048)
    server.do(listen, MAIN_ADDRESS)
    server.do(open_descriptors, 1024)
    meet(client, server, CLIENTS, MAIN_ADDRESS)
    server.do(watch_by_select)
    ask_and_go(stage, client, CLIENTS)
    wait_for_threads(stage, "server", 2)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})


SCENARIO = Scenario(
    name="select-limit",
    summary="a loop waits in select(), and its connections have descriptors from 1,024 on",
    teaches=(
        "An fd_set has 1,024 bits, one for each descriptor, and that number is compiled into the C "
        "library: no ulimit changes it.  A program that waits in select() accepts the connection "
        "with descriptor 1,024 and can never be told of what comes on it.  From then on its new "
        "connections stay unread, while the old ones are served as ever.  poll() and epoll have no "
        "such limit."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "warning", {"close_wait": CLIENTS}),),
    settle=12.0,
)
