"""A server whose TIME_WAITs exceed a limit that was set too low."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, converse, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 30 connections at the server where 20 TIME_WAITs are allowed."""
    stage.sysctl("net.ipv4.tcp_max_tw_buckets", "20")
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 30)
    converse(client, server)
    close_first(server, client)
    stage.wait_for({State.TIME_WAIT: 20, State.LAST_ACK: 0, State.CLOSE_WAIT: 0})


SCENARIO = Scenario(
    name="bucket-overflow",
    summary="30 closes where net.ipv4.tcp_max_tw_buckets allows 20 TIME_WAITs",
    teaches=(
        "Above net.ipv4.tcp_max_tw_buckets the kernel closes without TIME_WAIT and counts it in "
        "TCPTimeWaitOverflow.  That saves some 256 bytes each and gives up what TIME_WAIT is for: "
        "the last ACK cannot be repeated, and old segments may reach a new connection.  The limit "
        "is a last defence against attacks, not a way to have fewer TIME_WAITs."
    ),
    build=build,
    expects=(
        Expected("time-wait-table-filling", "critical", {"time_wait": 20, "limit": 20}),
        Expected("server-closes-first", "warning", {"time_wait": 20}),
        Expected("misleading-sysctl", "notice"),
    ),
)
