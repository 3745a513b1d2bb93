"""A server that starts a helper without giving it its connections."""

from __future__ import annotations

from functools import partial

from twdiag.lab.scenario import Scenario
from twdiag.lab.scenarios import inherited

SCENARIO = Scenario(
    name="not-inherited",
    summary="a server closes 5 connections while a helper runs that did not get them",
    teaches=(
        "The same server and helper, but the sockets have FD_CLOEXEC, which Python, Go, Java and "
        "Node.js set by themselves: exec() closed the copies, so that the server's close() is the "
        "last one and sends the FIN at once.  Nothing is left on this host: the clients were the "
        "first to close, and keep the TIME_WAITs."
    ),
    build=partial(inherited.build, inheritable=False),
)
