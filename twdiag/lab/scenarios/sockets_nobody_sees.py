"""A server that keeps connections which its clients have reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, abort, converse, limit_descriptors, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let the clients of 110 connections reset them, which the server never notices."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(limit_descriptors, 128)
    server.do(listen)
    meet(client, server, 110)
    converse(client, server)
    client.do(abort)
    stage.wait_for({State.ESTABLISHED: 0, State.TIME_WAIT: 0})


SCENARIO = Scenario(
    name="sockets-nobody-sees",
    summary="110 reset connections that fill a server's descriptors and no socket table",
    teaches=(
        "A RST takes a connection out of the kernel's tables at once, while its descriptor stays "
        "open until the program closes it.  ss shows one row here, the listener; the program is "
        "near its limit all the same, and soon accept() fails with EMFILE."
    ),
    build=build,
    expects=(
        Expected("fd-limit-near", "warning", {"sockets_in_no_table": 110, "fd_limit": 128}),
        Expected("sockets-nobody-sees", "warning", {"sockets_in_no_table": 110}),
    ),
)
