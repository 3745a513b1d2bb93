"""An event loop that forgot to watch most of its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios.workers import close_all_but, serve, wait_for_threads, watch_first
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage

CLIENTS = 40
FORGOTTEN = 39


def build(stage: Stage) -> None:
    """Let a loop watch one of forty connections, whose clients all but that one close."""
    server, client = serve(stage, CLIENTS)
    server.do(watch_first, CLIENTS - FORGOTTEN)
    client.do(close_all_but, CLIENTS - FORGOTTEN, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: FORGOTTEN})
    wait_for_threads(stage, "server", 2)


SCENARIO = Scenario(
    name="epoll-forgot",
    summary="an event loop watches 1 of 40 connections; the 39 others are closed, unread",
    teaches=(
        "The loop waits in epoll_wait() and is not slow: it is never told of the 39 sockets, "
        "because they are in none of its epoll sets.  A handler took them out, for back-pressure "
        "or after an error, and did not put them back or close them.  /proc/PID/fdinfo/EPFD "
        "lists what a set watches; what is missing there was forgotten by the program."
    ),
    build=build,
    expects=(Expected("close-wait-unread", "warning", {"close_wait": FORGOTTEN}),),
    settle=12.0,
)
