"""A server whose workers all wait for a database that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, listen
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import (
    DATABASE_PORT,
    ask_and_go,
    ask_database,
    serve,
    wait_for_threads,
)

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

WORKERS = 3
CLIENTS = 5


def build(stage: Stage) -> None:
    """Let three workers wait in recv() while five clients ask and go."""
    Program(stage, "database").do(listen, port=DATABASE_PORT)
    server, client = serve(stage, CLIENTS)
    server.do(ask_database, WORKERS)
    ask_and_go(stage, client, CLIENTS)
    wait_for_threads(stage, "server", WORKERS + 1)


SCENARIO = Scenario(
    name="stuck-on-upstream",
    summary="a server leaves 5 closed connections unread: its workers wait for a database",
    teaches=(
        "Each worker sent a query and waits in recv() for an answer that does not come, without a "
        "timeout.  Meanwhile the clients gave up: their data and FINs lie in sockets that nobody "
        "reads, in CLOSE_WAIT.  The sockets are the symptom and the server is not at fault for "
        "them; the end to look at is a third one, the database, and the timeout that is missing "
        "towards it."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "warning", {"close_wait": CLIENTS}),),
    settle=12.0,
)
