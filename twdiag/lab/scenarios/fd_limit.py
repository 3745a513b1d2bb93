"""A leaking program that has nearly used up its file descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import leave_half_closed
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Let a program with 64 descriptors keep 52 sockets whose clients are gone."""
    leave_half_closed(stage, "leaky", 52, fd_limit=64)


SCENARIO = Scenario(
    name="fd-limit",
    summary="52 leaked sockets of a program that may open 64 files",
    teaches=(
        "Each socket in CLOSE_WAIT keeps a file descriptor, and a process may have RLIMIT_NOFILE "
        "of them.  At the limit accept() and open() fail with EMFILE: the leak turns into an "
        "outage.  A higher limit only postpones it; the cure is the missing close()."
    ),
    build=build,
    expects=(
        Expected("fd-limit-near", "warning", {"close_wait": 52, "fd_limit": 64}),
        Expected("close-wait-leak", "warning", {"close_wait": 52}),
    ),
    settle=12.0,
)
