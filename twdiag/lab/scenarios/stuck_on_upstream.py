"""A server whose workers all wait for a database that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import DATABASE_PORT, ask_database, wait_for_threads
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

WORKERS = 3
CLIENTS = 5


def build(stage: Stage) -> None:
    """Let three workers wait in recv() while five clients ask and go."""
    stage.peer()
    database, server = Program(stage, "database"), Program(stage, "server")
    client = Program(stage, "client", peer=True)
    database.do(listen, port=DATABASE_PORT)
    server.do(listen, MAIN_ADDRESS)
    server.do(ask_database, WORKERS)
    meet(client, server, CLIENTS, MAIN_ADDRESS)
    client.do(close, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})
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
