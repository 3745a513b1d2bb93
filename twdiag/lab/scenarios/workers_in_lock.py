"""A server whose workers all wait for one lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import wait_for_lock, wait_for_threads
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

WORKERS = 4
CLIENTS = 5


def build(stage: Stage) -> None:
    """Let four workers wait for a lock that nobody releases while five clients ask and go."""
    stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS)
    server.do(wait_for_lock, WORKERS)
    meet(client, server, CLIENTS, MAIN_ADDRESS)
    client.do(close, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})
    wait_for_threads(stage, "server", WORKERS + 1)


SCENARIO = Scenario(
    name="workers-in-lock",
    summary="a server leaves 5 closed connections unread: all its workers wait for a lock",
    teaches=(
        "The workers wait for a lock that its holder never releases: a deadlock, or a holder that "
        "waits for something itself.  No system call shows it but futex(), in which an idle worker "
        "waits too; what tells them apart is the work that lies there, unread requests of clients "
        "that are gone.  A stack dump names the lock and its holder."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "warning", {"close_wait": CLIENTS}),),
    settle=12.0,
)
