"""A host that only waits for clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, listen
from twdiag.lab.scenario import Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Listen on two ports."""
    server = Program(stage, "server")
    server.do(listen, "127.0.0.1", 8080)
    server.do(listen, "0.0.0.0", 8443)


SCENARIO = Scenario(
    name="idle",
    summary="two listeners and no client",
    teaches=(
        "A LISTEN socket takes part in no connection: it only makes a new socket for every SYN "
        "that is answered.  Nothing closes here, so there is nothing to report."
    ),
    build=build,
)
