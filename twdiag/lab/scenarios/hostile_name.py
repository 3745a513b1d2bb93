"""A leaking program that chose its name to disturb whoever prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import leave_half_closed
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


NAME = "\x1b[31m[red]|\nx"


def build(stage: Stage) -> None:
    """Leak five sockets under a name of control characters and markup."""
    leave_half_closed(stage, NAME, 5)


SCENARIO = Scenario(
    name="hostile-name",
    summary="a leaking program with control characters and markup in its name",
    teaches=(
        "A process may give itself any 15 bytes as its name, terminal escape sequences and line "
        "feeds included.  What is printed about it must be made harmless first.  The leak is that "
        "of close-wait-leak: CLOSE_WAIT until the program closes."
    ),
    build=build,
    expects=(Expected("close-wait-leak", "notice", {"close_wait": 5}),),
    settle=12.0,
)
