"""An event loop that waits for a slow upstream and goes on to serve everybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, listen
from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.workers import (
    DATABASE_PORT,
    ask_database_in_loop,
    serve,
    wait_for_threads,
)
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 5


def build(stage: Stage) -> None:
    """Let an epoll loop watch five clients and one connection to a silent database."""
    Program(stage, "database").do(listen, port=DATABASE_PORT)
    server, _ = serve(stage, CLIENTS)
    server.do(ask_database_in_loop)
    stage.wait_for({State.ESTABLISHED: CLIENTS + 2})
    wait_for_threads(stage, "server", 2)


SCENARIO = Scenario(
    name="slow-upstream",
    summary="an event loop waits for a slow database and still watches all its clients",
    teaches=(
        "One thread waits in epoll_wait() for all connections at once: for the database that has "
        "not answered yet and for every client.  Whoever speaks first wakes it, and a client that "
        "closes is noticed at once.  So a slow upstream makes one request slow, and no socket "
        "stays in CLOSE_WAIT: this server is healthy."
    ),
    build=build,
)
