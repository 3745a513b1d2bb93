"""A NAT whose source ports are all used, by connections that are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab import nat
from twdiag.lab.actors import PORT, Program, close_first, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios.snat_ports_running_out import HIGH, LOW
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close ten connections through ten ports, and hold five more through the same ports."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    nat.give_source(PORT, MAIN_ADDRESS, LOW, HIGH)
    server.do(listen, address)
    meet(client, server, HIGH - LOW + 1, address)
    close_first(client, server)
    meet(client, server, 5, address)
    stage.wait_for({State.ESTABLISHED: 5, State.TIME_WAIT: HIGH - LOW + 1})


SCENARIO = Scenario(
    name="snat-ports-enough",
    summary="a NAT rule has 10 source ports; 15 connections fit, since 10 are over",
    teaches=(
        "An entry of connection tracking stays for 120 seconds after the close, but since Linux "
        "6.5 a new connection may take the port of one that is over.  So a NAT runs out of ports "
        "by the connections that are open, not by those that have closed: this one is healthy, "
        "although every port has an entry."
    ),
    build=build,
)
