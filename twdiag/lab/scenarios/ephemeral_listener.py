"""A service on a port that any outgoing connection may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import HERE, Program, listen
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Listen on a port of the ephemeral range, and on one that the kernel chose."""
    server = Program(stage, "server")
    server.do(listen, HERE, 40000)
    server.do(listen, HERE, 0)


SCENARIO = Scenario(
    name="ephemeral-listener",
    summary="a service on port 40000, which outgoing connections may take while it is down",
    teaches=(
        "connect() takes its local port from net.ipv4.ip_local_port_range, 32768 to 60999 by "
        "default.  While the service on port 40000 restarts, an outgoing connection may get this "
        "very port, and then bind() fails even with SO_REUSEADDR.  An entry in "
        "net.ipv4.ip_local_reserved_ports keeps the port free.  A port that the kernel chose "
        "(bind to port 0) may be any other next time and needs no protection."
    ),
    build=build,
    expects=(Expected("listener-in-ephemeral-range", "notice"),),
)
