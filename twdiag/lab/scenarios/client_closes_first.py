"""A client that opens and closes a connection for every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Open 600 connections to one server and close them at the client first."""
    stage.sysctl("net.ipv4.tcp_tw_reuse", "0")
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 600)
    close_first(client, server)
    stage.wait_for({State.TIME_WAIT: 600})


SCENARIO = Scenario(
    name="client-closes-first",
    summary="a client without a connection pool leaves 600 TIME_WAITs to one destination",
    teaches=(
        "The client sends the first FIN, so the TIME_WAITs stand at its end, and each holds a "
        "local port.  With net.ipv4.tcp_tw_reuse=0 none of these ports reaches the same "
        "destination again for 62 seconds (60, and up to 2 until the kernel's timer removes it): "
        "28,232 ports allow about 455 new connections a second in the long run.  A pool of kept "
        "connections needs a few ports for the same work."
    ),
    build=build,
    expects=(Expected("connection-churn", "notice", {"time_wait": 600}),),
)
