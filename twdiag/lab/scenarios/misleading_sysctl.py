"""A sysctl that cannot do what it was set for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close_first, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Close five connections at a client with tcp_tw_reuse and without timestamps."""
    stage.sysctl("net.ipv4.tcp_tw_reuse", "1")
    stage.sysctl("net.ipv4.tcp_timestamps", "0")
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 5)
    close_first(client, server)
    stage.wait_for({State.TIME_WAIT: 5})


SCENARIO = Scenario(
    name="misleading-sysctl",
    summary="net.ipv4.tcp_tw_reuse=1 is set, and TCP timestamps are off",
    teaches=(
        "connect() may reuse a TIME_WAIT only where TCP timestamps tell old segments from new "
        "ones.  With net.ipv4.tcp_timestamps=0 the setting net.ipv4.tcp_tw_reuse=1 does nothing: "
        "every TIME_WAIT keeps its port for its 60 seconds."
    ),
    build=build,
    expects=(Expected("misleading-sysctl", "notice"),),
)
