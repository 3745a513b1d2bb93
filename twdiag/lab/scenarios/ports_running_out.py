"""A client that has used nearly all local ports to one destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import churn_on_few_ports
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Use 90 of 100 ports, none of which the kernel may reuse."""
    stage.sysctl("net.ipv4.tcp_tw_reuse", "0")
    churn_on_few_ports(stage)


SCENARIO = Scenario(
    name="ports-running-out",
    summary="90 of the 100 local ports to one destination are in TIME_WAIT",
    teaches=(
        "A connection is its two addresses and two ports.  To one destination only the local port "
        "can differ, and it comes from net.ipv4.ip_local_port_range.  The client closes first, so "
        "each closed connection keeps its port for 60 to 62 seconds, and with "
        "net.ipv4.tcp_tw_reuse=0 there is no exception.  When the range is used up connect() "
        "fails with EADDRNOTAVAIL; other destinations are not affected."
    ),
    build=build,
    expects=(Expected("ports-running-out", "critical", {"used": 90, "ports": 100}),),
)
