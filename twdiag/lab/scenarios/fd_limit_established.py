"""A program whose live connections nearly use up its descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, converse, limit_descriptors, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Hold 110 live connections in a program that may open 128 files."""
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(limit_descriptors, 128)
    server.do(listen)
    meet(client, server, 110)
    converse(client, server)
    stage.wait_for({State.ESTABLISHED: 220})


SCENARIO = Scenario(
    name="fd-limit-established",
    summary="110 live connections of a server that may open 128 files",
    teaches=(
        "Not only leaks use up descriptors: live or idle connections do too, and nothing about "
        "them looks wrong in a table of sockets.  What counts is the number of open descriptors "
        "against the limit, which Linux shows of every process to everybody."
    ),
    build=build,
    expects=(Expected("fd-limit-near", "warning", {"established": 110, "fd_limit": 128}),),
)
