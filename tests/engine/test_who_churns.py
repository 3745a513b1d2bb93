"""A diagnosis that can blame nobody names the trace to run, and this names the process."""

from __future__ import annotations

import os
import shlex
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from tests.engine import endings
from tests.engine.privately import in_private, needs_tracefs
from twdiag.engine.diagnose import DiagnoseRequest, diagnose
from twdiag.engine.netns import resolve
from twdiag.engine.trace import Hooks, TraceRequest, trace
from twdiag.lab import kernel
from twdiag.lab.network import enter_private
from twdiag.model.closes import Close, ClosedBy
from twdiag.model.findings import DestinationSubject
from twdiag.wording import command_in

if TYPE_CHECKING:
    from twdiag.model.findings import Subject

PORT: Final = 7210


def churn(name: str, *, apart: bool = False) -> int:
    """Start a process of this name whose clients connect and close for ever; return its PID.

    Apart, it does so in a network namespace of its own.
    """
    pid = os.fork()
    if pid == 0:
        kernel.set_name(name)
        if apart:
            enter_private()
        with endings.listen(PORT) as listener:
            while True:
                client, server = endings.connected(listener)
                client.close()
                server.recv(1)
                server.close()
    return pid


def _is_ours(subject: Subject) -> bool:
    return isinstance(subject, DestinationSubject) and subject.port == PORT


def pointed_at(**where: Any) -> tuple[str, str]:
    """Return (trace to run, namespace) of the finding about churn, once there is one."""
    request = DiagnoseRequest(select=("connection-churn",), **where)
    deadline = time.monotonic() + 60
    while not (found := [f for f in diagnose(request).report.findings if _is_ours(f.subject)]):
        assert time.monotonic() < deadline
    commands = [command_in(advice.how) for advice in found[0].advice]
    (command,) = [c for c in commands if c.startswith("twdiag trace")]
    return command, found[0].netns


def test_the_trace_that_a_finding_points_to_names_the_process() -> None:
    needs_tracefs()

    def followed() -> tuple[str, list[Close]]:
        pid = churn("churner")
        try:
            command, _ = pointed_at()
            words, closes = shlex.split(command), list[Close]()
            port = int(words[words.index("--port") + 1])
            hooks = Hooks(closes.append, stop=lambda: len(closes) > 50)
            trace(TraceRequest(frozenset({port}), seconds=30), hooks)
            return command, closes
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    command, closes = in_private(followed, tracefs=True)
    assert command == f"twdiag trace --port {PORT} --for 10s"
    clients = [close for close in closes if close.first is ClosedBy.HERE]
    assert len(clients) > 10
    assert {close.remote_port for close in clients} == {PORT}
    assert {close.closer.name for close in clients if close.closer is not None} == {"churner"}


def test_of_another_namespace_it_points_there() -> None:
    def looked() -> tuple[tuple[str, str], tuple[str, str], str]:
        pid = churn("churner", apart=True)
        try:
            alone, of_all = pointed_at(netns=str(pid)), pointed_at(all_netns=True)
            namespace = resolve(shlex.split(of_all[0])[-1])
            assert pid in namespace.pids
            assert of_all[1] == namespace.label
            return alone, of_all, str(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    (alone, own), (of_all, _), pid = in_private(looked)
    assert alone == of_all == f"twdiag trace --port {PORT} --for 10s --netns {pid}"
    assert own == "host"  # the report's own namespace
