"""A client that binds each socket before it connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import HERE, Program, accept, connect, listen
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


PORTS = (8081, 8082, 8083, 8084)


def build(stage: Stage) -> None:
    """Keep 20 connections to each of four services from sockets that were bound first."""
    stage.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
    server, client = Program(stage, "server"), Program(stage, "client")
    for port in PORTS:
        server.do(listen, HERE, port)
        client.do(connect, 20, HERE, port, source=(HERE, 0))
        server.do(accept, 20)
    stage.wait_for({State.ESTABLISHED: 160})


SCENARIO = Scenario(
    name="bound-ports-running-out",
    summary="80 of 100 local ports are taken by sockets bound before they connect",
    teaches=(
        "bind() with port 0 must choose the local port before the destination is known, so the "
        "port is taken for all destinations at once, and 4 services share one budget of 100.  "
        "connect() alone chooses per destination: it would leave 80 ports free for each.  The "
        "socket option IP_BIND_ADDRESS_NO_PORT binds the address only and ends the shortage."
    ),
    build=build,
    expects=(Expected("bound-ports-running-out", "warning", {"used": 80, "ports": 100}),),
)
