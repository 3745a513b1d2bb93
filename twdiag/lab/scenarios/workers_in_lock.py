"""A server whose workers all wait for one lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import ask_and_go, serve, wait_for_lock, wait_for_threads

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

WORKERS = 4
CLIENTS = 5


def build(stage: Stage) -> None:
    """Let four workers wait for a lock that nobody releases while five clients ask and go."""
    server, client = serve(stage, CLIENTS)
    server.do(wait_for_lock, WORKERS)
    ask_and_go(stage, client, CLIENTS)
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
