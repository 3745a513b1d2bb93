"""A NAT whose source ports to one destination are all taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab import nat
from twdiag.lab.actors import PORT, Program, call_out, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

LOW, HIGH = 40000, 40009


def build(stage: Stage) -> None:
    """Hold ten connections through ten ports, and begin one more."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    nat.give_source(PORT, MAIN_ADDRESS, LOW, HIGH)
    server.do(listen, address)
    meet(client, server, HIGH - LOW + 1, address)
    client.do(call_out, 1, address)
    stage.wait_for({State.ESTABLISHED: HIGH - LOW + 1, State.SYN_SENT: 1})


SCENARIO = Scenario(
    name="snat-ports-running-out",
    summary="a NAT rule has 10 source ports, and 10 connections hold them",
    teaches=(
        "A NAT tells the connections to one destination apart by the source port that it gives "
        "them.  This one has ten, so the eleventh connection gets none: the kernel drops its SYN "
        "without a word, insert_failed counts it, and connect() waits until it times out.  ss "
        "shows nothing but a SYN_SENT, and the local ports of this host are nearly all free."
    ),
    build=build,
    expects=(
        Expected(
            "snat-ports-running-out",
            "critical",
            {"entries": 10, "snat_ports": 10, "live_entries": 10, "snat_ports_by_rule": True},
        ),
    ),
)
