"""A program that does not read what its departed clients sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Leave 100 bytes and a FIN unread on each of five connections."""
    stage.peer()
    server, client = Program(stage, "stuck"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS)
    meet(client, server, 5, MAIN_ADDRESS)
    client.do(close, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: 5})


SCENARIO = Scenario(
    name="close-wait-unread",
    summary="a stuck program leaves 100 bytes unread on 5 closed connections",
    teaches=(
        "The FIN comes behind the data, so a program that does not read never learns that the "
        "client is gone.  The kernel acknowledged all of it and put the socket in CLOSE_WAIT: "
        "Recv-Q is 101, 100 bytes and 1 for the FIN.  Look for what the reader waits for, such as "
        "a lock, a full thread pool or a slow backend.  A close() now would send RST, not FIN."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "warning", {"close_wait": 5}),),
    settle=12.0,
)
