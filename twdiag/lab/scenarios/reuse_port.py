"""A server of three processes that share one port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import (
    Program,
    accept_among,
    await_acknowledgement,
    await_end,
    close,
    connect,
    listen,
    shut,
)
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close 24 connections at the workers of a server first."""
    workers = [Program(stage, "worker") for _ in range(3)]
    client = Program(stage, "client")
    for worker in workers:
        worker.do(listen, shared=True)
    client.do(connect, 24)
    accept_among(workers, 24)
    for worker in workers:
        worker.do(shut)
    client.do(await_end)
    for worker in workers:
        worker.do(await_acknowledgement)
        worker.do(close)
    client.do(close)
    stage.wait_for({State.TIME_WAIT: 24})


SCENARIO = Scenario(
    name="reuse-port",
    summary="3 processes listen on one port; they close 24 connections first",
    teaches=(
        "With SO_REUSEPORT several sockets listen on the same address and port, and the kernel "
        "spreads the clients over them.  The table shows 3 LISTEN rows, yet it is one service: a "
        "TIME_WAIT keeps no owner, so nothing tells which of the processes closed it."
    ),
    build=build,
    expects=(Expected("server-closes-first", "notice", {"time_wait": 24}),),
)
