"""A NAT that keeps an entry for each of many short connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab import nat
from twdiag.lab.actors import PORT, Program, close_first, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CONNECTIONS = 300


def build(stage: Stage) -> None:
    """Open connections through a NAT, and close them at the server."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "client")
    nat.give_source(PORT, MAIN_ADDRESS, 1024, 65535)
    server.do(listen, address)
    meet(client, server, CONNECTIONS, address)
    close_first(server, client)
    stage.wait_for({})


SCENARIO = Scenario(
    name="conntrack-filling",
    summary="300 closed connections, each with an entry of connection tracking",
    teaches=(
        "A NAT and a firewall with state keep an entry for each connection, and for 120 seconds "
        "after its close.  The sockets' TIME_WAITs stand at the server, so this host has no socket "
        "at all, and its table fills all the same.  The size of the table, nf_conntrack_max, is "
        "the host's, and the lab leaves it alone."
    ),
    build=build,
    expects=(
        Expected(
            "conntrack-filling",
            "warning",
            {
                "entries": CONNECTIONS,
                "entry_states": ["TIME_WAIT"],
                "state_entries": [CONNECTIONS],
            },
        ),
    ),
    limits={"conntrack-warning": 0.0001},
)
