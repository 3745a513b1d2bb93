"""A trace of another network namespace tells its closes, and those of no other."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.engine import endings
from tests.engine.privately import become_nobody, in_private, needs_tracefs
from tests.sources.live.confinement import can_filter, forbid_netlink
from twdiag.engine.trace import Hooks, TraceRequest, trace
from twdiag.errors import TwdiagError
from twdiag.lab import kernel
from twdiag.lab.network import enter_private
from twdiag.model.closes import ClosedBy

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.closes import Close

THERE, HERE = 7200, 7201
TIMES = 5


class Neighbour(NamedTuple):
    """A process in a network namespace of its own; it works when told to."""

    pid: int
    go: int
    done: int

    def work(self) -> None:
        """Let it end its connections, and wait until it did."""
        os.write(self.go, b"x")
        assert os.read(self.done, 1) == b"x"

    def end(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def neighbour(port: int) -> Neighbour:
    """Start a process that enters a namespace of its own and ends connections when told to."""
    waiting, go = os.pipe()
    done, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter_private()
            os.write(telling, b"x")
            while os.read(waiting, 1):
                end_some(port)
                os.write(telling, b"x")
        finally:
            os._exit(1)
    os.close(waiting)
    os.close(telling)
    assert os.read(done, 1) == b"x"
    return Neighbour(pid, go, done)


def end_some(port: int) -> None:
    """End some connections by their server."""
    for _ in range(TIMES):
        with endings.listen(port) as listener:
            client, server = endings.connected(listener)
            server.close()
            client.recv(1)
            client.close()


def traced(source: str, namespace: Callable[[Neighbour], str]) -> tuple[list[Close], int, str]:
    """Trace a neighbour's namespace while both end connections; return (ends, elsewhere, own)."""
    other = neighbour(THERE)
    closes: list[Close] = []
    wanted = 2 * TIMES

    def ready() -> None:
        child = os.fork()  # this process is in the other namespace by now
        if child == 0:
            kernel.setns(home)
            end_some(HERE)
            os._exit(0)
        os.waitpid(child, 0)
        other.work()

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    before = os.stat("/proc/self/ns/net").st_ino
    try:
        outcome = trace(
            TraceRequest(source=source, netns=namespace(other), seconds=20),
            Hooks(closes.append, stop=lambda: len(closes) >= wanted, ready=ready),
        )
    finally:
        other.end()
    assert os.stat("/proc/self/ns/net").st_ino == before
    return closes, outcome.losses.elsewhere, outcome.source


NAMES: list[Callable[[Neighbour], str]] = [
    lambda other: str(other.pid),
    lambda other: f"/proc/{other.pid}/ns/net",
]


@pytest.mark.parametrize("name", NAMES, ids=["pid", "path"])
@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_only_that_namespaces_closes_are_told(
    source: str, name: Callable[[Neighbour], str]
) -> None:
    if source == "auto":
        needs_tracefs()
    closes, elsewhere, used = in_private(lambda: traced(source, name), tracefs=source == "auto")
    assert used == ("tracefs+multicast" if source == "auto" else "multicast")
    ports = {port for close in closes for port in (close.local_port, close.remote_port)}
    assert THERE in ports
    assert HERE not in ports
    assert len(closes) == 2 * TIMES
    assert sum(close.first is ClosedBy.HERE for close in closes) == TIMES
    if source == "auto":
        assert elsewhere >= 2 * TIMES
        assert all(close.closer is not None and close.closer.name for close in closes)


def test_an_ordinary_user_traces_a_container_of_theirs() -> None:
    def traced() -> tuple[int, int]:
        become_nobody()
        other = neighbour(THERE)  # in a user namespace too: nobody comes back from there
        told: list[Close] = []
        hooks = Hooks(told.append, stop=lambda: len(told) >= 2 * TIMES, ready=other.work)
        try:
            outcome = trace(TraceRequest(netns=str(other.pid), seconds=20), hooks)
        finally:
            other.end()
        return outcome.summary.all.total, outcome.summary.all.here

    assert in_private(traced) == (2 * TIMES, TIMES)


@pytest.mark.parametrize("word", ["no-such-namespace", "/etc/hosts", "0"])
def test_a_word_that_means_none_is_one_sentence(word: str) -> None:
    with pytest.raises(TwdiagError) as refusal:
        trace(TraceRequest(netns=word), Hooks(stop=lambda: True))
    assert refusal.value.next_step


@can_filter
def test_without_announcements_nobody_knows_whose_closes_they_are() -> None:
    needs_tracefs()

    def refused() -> str:
        other = neighbour(THERE)
        forbid_netlink(1)
        try:
            trace(TraceRequest(netns=str(other.pid)), Hooks(stop=lambda: True))
        except TwdiagError as error:
            return error.what
        finally:
            other.end()
        return ""

    assert "is not to be seen" in in_private(refused, tracefs=True)
