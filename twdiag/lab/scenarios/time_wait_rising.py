"""A server whose rate of closes has just jumped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, listen, meet, ticks
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 250 connections a second at the server, for 13 seconds.

    Each tick has a client address of its own: a new connection on the port of an earlier one would
    take over its TIME_WAIT, and some closes would leave no trace.
    """
    # The default grows with the memory of the host, and with it the rate that matters.
    stage.sysctl("net.ipv4.tcp_max_tw_buckets", "65536")
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    for tick, _ in enumerate(ticks(seconds=13, each=0.1), start=1):
        meet(client, server, 25, source=(f"127.0.1.{tick}", 0))
        close_first(server, client)
    stage.wait_for({State.TIME_WAIT: 3250})


SCENARIO = Scenario(
    name="time-wait-rising",
    summary="a server has begun to close 250 connections a second",
    teaches=(
        "Each close leaves a TIME_WAIT for 60 seconds, so the number of them follows the rate of "
        "closes a minute late: 250 a second settle at 15,000.  After 13 seconds a count of 3,250 "
        "looks harmless; the timers of the sockets, which tell when each one began, show where it "
        "is going."
    ),
    build=build,
    expects=(
        Expected("time-wait-rising", "notice"),
        Expected("server-closes-first", "notice", {"time_wait": 3250}),
    ),
)
