"""A server that closes first, on IPv6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, converse, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 23 IPv6 connections at the server first."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen, "::1")
    meet(client, server, 23, "::1")
    converse(client, server)
    close_first(server, client)
    stage.wait_for({State.TIME_WAIT: 23})


SCENARIO = Scenario(
    name="ipv6",
    summary="a server closes 23 IPv6 connections before its clients do",
    teaches=(
        "TCP is the same over IPv6, and so is its close; the sysctls under net.ipv4.tcp_* rule "
        "both.  The kernel only shows these sockets in a table of their own, which a look at "
        "/proc/net/tcp alone would miss."
    ),
    build=build,
    expects=(Expected("server-closes-first", "notice", {"time_wait": 23}),),
)
