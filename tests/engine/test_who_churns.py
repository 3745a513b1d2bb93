"""A diagnosis that can blame nobody names the trace to run, and this names the process."""

from __future__ import annotations

import os
import shlex
import signal
import time
from typing import Final

from tests.engine import endings
from tests.engine.privately import in_private, needs_tracefs
from twdiag import rules
from twdiag.engine.look import Question, look
from twdiag.engine.trace import Hooks, Request, trace
from twdiag.lab import kernel
from twdiag.model.closes import Close, Side
from twdiag.wording import command_in

PORT: Final = 7210


def churn(name: str) -> int:
    """Start a process of this name whose clients connect and close for ever; return its PID."""
    pid = os.fork()
    if pid == 0:
        kernel.set_name(name)
        with endings.listen(PORT) as listener:
            while True:
                client, server = endings.connected(listener)
                client.close()
                server.recv(1)
                server.close()
    return pid


def pointed_at() -> str:
    """Return the trace that the finding about churn points to, once there is one."""
    question = Question(rules=rules.choose(["connection-churn"]), causes=False)
    deadline = time.monotonic() + 60
    while not (found := look(question).findings):
        assert time.monotonic() < deadline
    commands = [command_in(advice.how) for advice in found[0].advice]
    (command,) = [c for c in commands if c.startswith("twdiag trace")]
    return command


def test_the_trace_that_a_finding_points_to_names_the_process() -> None:
    needs_tracefs()

    def followed() -> tuple[str, list[Close]]:
        pid = churn("churner")
        try:
            command = pointed_at()
            words, closes = shlex.split(command), list[Close]()
            port = int(words[words.index("--port") + 1])
            hooks = Hooks(closes.append, stop=lambda: len(closes) > 50)
            trace(Request(frozenset({port}), seconds=30), hooks)
            return command, closes
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    command, closes = in_private(followed, tracefs=True)
    assert command == f"twdiag trace --port {PORT} --for 10s"
    clients = [close for close in closes if close.first is Side.HERE]
    assert len(clients) > 10
    assert {close.remote_port for close in clients} == {PORT}
    assert {close.closer.name for close in clients if close.closer is not None} == {"churner"}
