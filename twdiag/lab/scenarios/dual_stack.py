"""A server that closes first, on one socket for IPv6 and IPv4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import HERE, Program, close_first, converse, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 23 IPv4 connections at a server that listens on [::]."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen, "::")
    meet(client, server, 23, HERE)
    converse(client, server)
    close_first(server, client)
    stage.wait_for({State.TIME_WAIT: 23})


SCENARIO = Scenario(
    name="dual-stack",
    summary="a server on [::]:8080 closes 23 IPv4 connections first",
    teaches=(
        "A listener on [::] takes IPv4 clients too unless IPV6_V6ONLY is set.  Their connections "
        "are IPv4 on the wire, and the server's sockets show them as ::ffff:127.0.0.1 among the "
        "IPv6 ones.  The TIME_WAITs belong to that listener all the same."
    ),
    build=build,
    expects=(Expected("server-closes-first", "notice", {"time_wait": 23}),),
)
