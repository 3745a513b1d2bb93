"""A server whose workers wait for work, in the same system call as for a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.workers import dispatch_to_idle_workers, serve, wait_for_threads
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

WORKERS = 4
CLIENTS = 5


def build(stage: Stage) -> None:
    """Let four workers wait for work while a loop watches the listener and five clients."""
    server, _ = serve(stage, CLIENTS)
    server.do(dispatch_to_idle_workers, WORKERS)
    stage.wait_for({State.ESTABLISHED: CLIENTS})
    wait_for_threads(stage, "server", WORKERS + 2)


SCENARIO = Scenario(
    name="idle-workers",
    summary="4 workers wait for work, and a loop watches 5 quiet clients for them",
    teaches=(
        "Workers without work wait in futex(), as they would for a lock.  They are idle and not "
        "stuck: an event loop watches every client, and would hand a request to one of them.  The "
        "same picture with requests unread, and nobody who watches them, would be trouble."
    ),
    build=build,
)
