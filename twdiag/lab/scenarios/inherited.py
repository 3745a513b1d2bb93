"""A connection that a child process keeps open after its parent has closed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import close
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import serve, start_helper
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 5


def build(stage: Stage, *, inheritable: bool = True) -> None:
    """Let a server start a helper that inherits five connections, then let both ends close."""
    server, client = serve(stage, CLIENTS)
    stage.notes["helper"] = server.do(start_helper, inheritable=inheritable)
    client.do(close)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})
    server.do(close)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS if inheritable else 0})


SCENARIO = Scenario(
    name="inherited",
    summary="a child holds 5 connections that its parent and the clients have closed",
    teaches=(
        "fork() copies every descriptor, and exec() keeps those without FD_CLOEXEC.  The server "
        "called close(), but the kernel sends the FIN only when the last copy is closed: a helper "
        "that it had started still holds them all.  The sockets show up as the helper's, which "
        "knows nothing of them.  The cure is SOCK_CLOEXEC, or close_fds in the call that starts "
        "it; to end the helper frees them now."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "notice", {"close_wait": CLIENTS}),),
    settle=12.0,
)
