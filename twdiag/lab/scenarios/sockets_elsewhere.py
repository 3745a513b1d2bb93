"""A server whose connections belong to another network namespace than the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twdiag.lab import kernel
from twdiag.lab.actors import Program, converse, limit_descriptors, listen, meet
from twdiag.lab.network import PEER_ADDRESS
from twdiag.lab.scenario import Scenario

if TYPE_CHECKING:
    from twdiag.lab.actors import Sockets
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let a server accept 110 connections in one namespace, and move to another one."""
    server = Program(stage, "server", peer=True)
    client = Program(stage, "client", peer=True)
    server.do(limit_descriptors, 200)
    server.do(listen, PEER_ADDRESS)
    meet(client, server, 110, PEER_ADDRESS)
    converse(client, server)
    server.do(_come_here)


def _come_here(_: Sockets) -> None:
    """Enter the namespace of the director, which looks from there."""
    here = os.open(f"/proc/{os.getppid()}/ns/net", os.O_RDONLY)
    kernel.setns(here)
    os.close(here)


SCENARIO = Scenario(
    name="sockets-elsewhere",
    summary="a server holds 110 live connections of another network namespace",
    teaches=(
        "A socket stays in the network namespace that it was opened in, wherever its process goes "
        "and whoever gets its descriptor.  No table of the server's namespace shows these "
        "connections, and still nothing leaks: they live, in a table of the other namespace.  "
        "HAProxy with `namespace` and a container with socket activation look like this."
    ),
    build=build,
)
