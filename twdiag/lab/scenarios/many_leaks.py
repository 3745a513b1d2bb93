"""Many workers of one program with the same leak, one of them stopped, and one in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.lab import actors
from twdiag.lab.actors import PORT, Program, converse, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import halt, wait_for_state
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

LEAKING: Final = 8
STOPPED: Final = "worker-0"
KEPT: Final = 5
MOST: Final = 12


def build(stage: Stage) -> None:
    """Let eight workers keep five sockets whose clients are gone, a stopped one twelve."""
    stage.peer()
    _serve(stage, STOPPED, MOST, PORT, leak=True).do(halt)
    wait_for_state(stage, STOPPED, "T")
    for number in range(1, LEAKING + 1):
        _serve(stage, f"worker-{number}", KEPT, PORT + number, leak=True)
    in_order = LEAKING + 1
    _serve(stage, f"worker-{in_order}", KEPT, PORT + in_order, leak=False)
    stage.wait_for({State.CLOSE_WAIT: MOST + LEAKING * KEPT, State.ESTABLISHED: KEPT})


def _serve(stage: Stage, name: str, clients: int, port: int, *, leak: bool) -> Program:
    """Let a worker answer its clients, which go or stay; return it."""
    worker, client = Program(stage, name), Program(stage, "client", peer=True)
    worker.do(actors.listen, MAIN_ADDRESS, port)
    meet(client, worker, clients, MAIN_ADDRESS, port)
    converse(client, worker)
    if leak:
        client.do(actors.close)
        worker.do(actors.drain)
    return worker


SCENARIO = Scenario(
    name="many-leaks",
    summary="8 workers of one program leak 5 sockets each, a stopped one keeps 12",
    teaches=(
        "A leak in the code of a program is in all of its workers, and to whoever is woken it is "
        "one problem: findings of one program, one severity and one cause are told in one line, "
        "with how many processes they are of, what they add up to, and the worst.  What differs "
        "stays apart: a worker that is stopped leaks for another reason, and one in order is not "
        "told at all.  --full, --brief and --json have each finding."
    ),
    build=build,
    expects=tuple(
        Expected("close-wait-leak", "notice", {"close_wait": kept})
        for kept in (MOST, *[KEPT] * LEAKING)
    ),
    settle=12.0,
)
