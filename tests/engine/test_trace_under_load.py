"""Many closes, and a reader that is stopped: each is told, or the number lost is exact."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.engine import endings
from tests.engine.privately import in_private, needs_tracefs
from twdiag.engine.trace import Hooks, TraceRequest, trace
from twdiag.sources.live.tracing import tracer

if TYPE_CHECKING:
    from twdiag.model.closes import Losses

MANY: Final = 2_000
STOPPED: Final = 0.5


class Told(NamedTuple):
    """How many ends were told of how many, and what was lost."""

    ends: int
    made: int
    losses: Losses


def end_many(port: int) -> None:
    """End many connections by their server, as fast as may be."""
    with endings.listen(port) as listener:
        for _ in range(MANY):
            client, server = endings.connected(listener)
            server.close()
            client.recv(1)
            client.close()


def stop_for_a_while(reader: int) -> None:
    """Stop a process, and let it go on."""
    time.sleep(0.2)
    os.kill(reader, signal.SIGSTOP)
    time.sleep(STOPPED)
    os.kill(reader, signal.SIGCONT)


def traced(source: str, *, stopped: bool) -> Told:
    """Trace while many connections end, and another process stops this one if asked to."""
    children: list[int] = []
    ends: list[None] = []
    ended: list[float] = []

    def ready() -> None:
        reader = os.getpid()
        work = [lambda: end_many(7220)] + ([lambda: stop_for_a_while(reader)] if stopped else [])
        for one in work:
            child = os.fork()
            if child == 0:
                one()
                os._exit(0)
            children.append(child)

    def stop() -> bool:
        if children and os.waitpid(children[0], os.WNOHANG)[0]:
            children.pop(0)
        if not children and not ended:
            ended.append(time.monotonic())
        return bool(ended) and time.monotonic() > ended[0] + 0.3

    ports = frozenset({7220})
    hooks = Hooks(lambda close: ends.append(None), stop=stop, ready=ready)
    outcome = trace(TraceRequest(ports, source=source), hooks)
    return Told(len(ends), 2 * MANY, outcome.losses)


@pytest.mark.parametrize("stopped", [False, True], ids=["reading", "stopped"])
@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_each_end_is_told_or_the_number_lost_is_exact(source: str, stopped: bool) -> None:
    if source == "auto":
        needs_tracefs()
    told = in_private(lambda: traced(source, stopped=stopped), tracefs=source == "auto")
    assert told.losses.announcements is not None
    assert told.ends + told.losses.announcements == told.made


def test_what_is_read_in_parts_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_tracefs()
    monkeypatch.setattr(tracer, "_MOST_PAGES", 2)
    told = in_private(lambda: traced("auto", stopped=True), tracefs=True)
    assert told.losses.announcements is not None
    assert told.ends + told.losses.announcements == told.made
