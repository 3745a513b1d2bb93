"""A server that closes first, with clients that never close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, converse, listen, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 25 connections at the server; the clients keep their side open."""
    stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client", peer=True)
    server.do(listen, MAIN_ADDRESS)
    meet(client, server, 25, MAIN_ADDRESS)
    converse(client, server)
    server.do(close)
    stage.wait_for({State.FIN_WAIT2: 25})


SCENARIO = Scenario(
    name="orphan-fin-wait2",
    summary="a server closed 25 connections first; the clients never close theirs",
    teaches=(
        "After close() no program owns the socket: it is an orphan in FIN_WAIT2 that waits for "
        "the client's FIN, at most net.ipv4.tcp_fin_timeout seconds.  If the FIN comes, 60 seconds "
        "of TIME_WAIT follow; if not, the kernel forgets the connection.  The clients hold their "
        "end in CLOSE_WAIT: idle pools, or a leak over there."
    ),
    build=build,
    expects=(
        Expected("peer-never-closes", "notice", {"fin_wait2": 25}),
        Expected("server-closes-first", "notice"),
    ),
    settle=12.0,
)
