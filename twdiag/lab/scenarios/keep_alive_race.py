"""A server that closes idle connections sooner than its client gives them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.keeping import set_up

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let a client use pooled connections after pauses, without an idle limit."""
    set_up(stage, limit=None)


SCENARIO = Scenario(
    name="keep-alive-race",
    summary="a server closes idle connections after 0.6 s, and its client still uses them",
    teaches=(
        "A client keeps connections in a pool and sends the next request whenever it has one. The "
        "server closes a connection that was idle for 0.6 s. A request that comes later meets the "
        "close: nobody is left to read it, and a RST answers it. The client sees an empty answer "
        "or ECONNRESET, a proxy answers 502. The server must wait longer than its clients do."
    ),
    build=build,
    expects=(Expected("keep-alive-race", "warning", {}),),
    interval=4.0,
)
