"""A NAT whose source ports are all used, by connections that are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab import nat
from twdiag.lab.actors import PORT, Program, close_first, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


LOW, HIGH = 40000, 40039
LIVE = 10


def build(stage: Stage) -> None:
    """Close 40 connections through 40 ports, and hold ten more through the same ports.

    An old port is taken only where the new sequence numbers lie ahead of the old ones, which is
    chance: with 30 ports left to try it does not matter.
    """
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    nat.give_source(PORT, MAIN_ADDRESS, LOW, HIGH)
    server.do(listen, address)
    meet(client, server, HIGH - LOW + 1, address)
    close_first(client, server)
    meet(client, server, LIVE, address)
    stage.wait_for({State.ESTABLISHED: LIVE, State.TIME_WAIT: HIGH - LOW + 1})


SCENARIO = Scenario(
    name="snat-ports-enough",
    summary="a NAT rule has 40 source ports; 50 connections fit, since 40 are over",
    teaches=(
        "An entry of connection tracking stays for 120 seconds after the close, but since Linux "
        "6.5 a new connection may take the port of one that is over.  So a NAT runs out of ports "
        "by the connections that are open, not by those that have closed: this one is healthy, "
        "although every port has an entry."
    ),
    build=build,
)
