"""Real connections, ended in every way there is: each is told, once, and rightly."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.engine import endings
from tests.engine.endings import ENDINGS, Ending, Told
from tests.engine.privately import become_nobody, in_private, mount_tracefs, needs_tracefs
from tests.sources.live.confinement import can_filter, forbid_netlink, in_child
from twdiag.engine.trace import Hooks, TraceRequest, trace
from twdiag.errors import SourceError, SourceRefused, TwdiagError
from twdiag.model.closes import ClosedBy, How, Opened, Why
from twdiag.sources.live.proc import read_counters
from twdiag.sources.live.tracing import tracefs
from twdiag.sources.live.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.closes import Close, Losses

IDS: Final = [ending.name for ending in ENDINGS]


class Seen(NamedTuple):
    """What a trace told of all endings."""

    closes: list[Close]
    losses: Losses
    source: str
    said: list[str]
    counters: dict[str, int]

    def of(self, ending: Ending) -> tuple[list[Close], list[Close]]:
        """Return what was told of the clients' ends and of the servers' ends."""
        return (
            [close for close in self.closes if close.remote_port == ending.port],
            [close for close in self.closes if close.local_port == ending.port],
        )


def watch(
    work: Callable[[], None],
    source: str,
    *,
    nobody: bool = False,
    ports: frozenset[int] = frozenset(),
) -> Seen:
    """Trace while a child process works, and a moment longer."""
    closes: list[Close] = []
    said: list[str] = []
    start, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        code = 1
        with contextlib.suppress(BaseException):
            os.read(start, 1)
            work()
            code = 0
        os._exit(code)
    os.close(start)
    if nobody:
        become_nobody()
    ended: list[float] = []
    status: list[int] = []

    def stop() -> bool:
        if not ended:
            pid, code = os.waitpid(child, os.WNOHANG)
            if pid:
                ended.append(time.monotonic())
                status.append(code)
        return bool(ended) and time.monotonic() > ended[0] + 0.5

    before = read_counters()[0]
    hooks = Hooks(closes.append, said.append, stop, lambda: os.close(ready))
    outcome = trace(TraceRequest(ports, source=source), hooks)
    after = read_counters()[0]
    assert status == [0]
    risen = {name: after[name] - before.get(name, 0) for name in after}
    return Seen(closes, outcome.losses, outcome.source, said, risen)


@pytest.fixture(scope="module")
def traced() -> Seen:
    """Every ending, seen with the right to trace."""
    needs_tracefs()
    return in_private(lambda: watch(endings.make_all, "auto"), tracefs=True)


@pytest.fixture(scope="module")
def inferred() -> Seen:
    """Every ending, seen without any right."""
    # Without rights some ends are told by what counters did meanwhile: on a host so busy that two
    # ends are read at once, the sentence is "not known", and another run may say it.
    for _ in range(_TRIES):
        seen = in_private(lambda: watch(endings.make_all, "auto", nobody=True))
        if all(_as_expected(seen, ending) for ending in ENDINGS):
            break
    return seen


_TRIES = 3


def _as_expected(seen: Seen, ending: Ending) -> bool:
    pairs = zip(seen.of(ending), ending.inferred, strict=True)
    return all(told(c) == {e: ending.times} for c, e in pairs if e is not None)


def told(closes: list[Close]) -> Counter[Told]:
    """Return how often what was told."""
    return Counter(Told(close.first, close.how, close.why) for close in closes)


@pytest.mark.parametrize("ending", ENDINGS, ids=IDS)
def test_every_way_to_end_is_told_as_root(traced: Seen, ending: Ending) -> None:
    for closes, expected in zip(traced.of(ending), ending.traced, strict=True):
        if expected is not None and expected.first is not ClosedBy.BOTH:
            assert told(closes) == {expected: ending.times}


def test_fins_that_cross_are_told_by_the_end_that_sees_it(traced: Seen) -> None:
    clients, servers = traced.of(next(e for e in ENDINGS if e.name == "both at once"))
    of_port = {close.local_port: close.first for close in clients}
    for close in servers:
        # On loopback the second FIN is sent only when the first has been answered.
        firsts = {close.first, of_port.pop(close.remote_port)}
        assert ClosedBy.BOTH in firsts
        assert firsts <= {ClosedBy.BOTH, ClosedBy.HERE}
        assert close.how is How.FIN
    assert of_port == {}


@pytest.mark.parametrize("ending", ENDINGS, ids=IDS)
def test_every_way_to_end_is_told_without_rights(inferred: Seen, ending: Ending) -> None:
    for closes, expected in zip(inferred.of(ending), ending.inferred, strict=True):
        if expected is not None:
            assert told(closes) == {expected: ending.times}


def test_a_failed_connect_without_rights_is_told_as_just_that(inferred: Seen) -> None:
    failed = [close for close in inferred.closes if close.why is Why.CONNECT_FAILED]
    assert len(failed) == sum(e.times for e in ENDINGS if e.name in ("refused", "SYN unanswered"))
    assert {(close.first, close.how) for close in failed} == {(None, None)}


@pytest.mark.parametrize("seen", ["traced", "inferred"])
def test_as_many_ends_are_told_as_there_were(seen: str, request: pytest.FixtureRequest) -> None:
    found: Seen = request.getfixturevalue(seen)
    one_end = {"refused", "SYN unanswered"}
    ends = sum(e.times * (1 if e.name in one_end else 2) for e in ENDINGS)
    assert len(found.closes) == ends
    assert (found.losses.trace_events or 0, found.losses.announcements) == (0, 0)


def test_what_is_told_agrees_with_the_kernels_counters(traced: Seen) -> None:
    whys = Counter(close.why for close in traced.closes)
    timeouts = sum(close.how is How.TIMEOUT for close in traced.closes)
    opened = Counter(close.opened for close in traced.closes)
    assert traced.counters["TcpExt.TCPAbortOnClose"] == whys[Why.UNREAD]
    assert traced.counters["TcpExt.TCPAbortOnData"] == whys[Why.LINGER]
    assert traced.counters["TcpExt.TCPAbortOnTimeout"] == timeouts
    assert traced.counters["Tcp.ActiveOpens"] == opened[Opened.OUT]
    assert traced.counters["Tcp.PassiveOpens"] == opened[Opened.IN]
    waiting = [
        c for c in traced.closes if c.first in (ClosedBy.HERE, ClosedBy.BOTH) and c.how is How.FIN
    ]
    assert traced.counters["TcpExt.TW"] == len(waiting)


def test_the_process_of_each_close_is_named(traced: Seen) -> None:
    for ending in ENDINGS:
        _, servers = traced.of(ending)
        for close in servers if ending.at_exit else ():
            assert close.dying
            assert close.closer is not None
            assert close.closer.name
    ordinary = next(e for e in ENDINGS if e.name == "server closes")
    for closes in traced.of(ordinary):
        for close in closes:
            assert close.closer is not None
            assert close.closer.pid == close.closer.tid
            assert not close.dying


def test_ages_and_bytes_are_told(traced: Seen) -> None:
    clients, servers = traced.of(next(e for e in ENDINGS if e.name == "server closes"))
    assert {(close.sent, close.received) for close in clients} == {(8, 6)}
    assert {(close.sent, close.received) for close in servers} == {(6, 8)}
    assert all(close.close_wait is not None and close.close_wait >= 0 for close in clients)
    assert all(close.close_wait is None for close in servers)
    idle, _ = traced.of(next(e for e in ENDINGS if e.name == "keepalive timeout"))
    for close in idle:
        assert close.lived is not None
        assert close.lived >= 1.9
        assert not close.older
        assert close.idle is not None
        assert close.lived - 0.1 <= close.idle <= close.lived


def test_without_rights_it_says_what_is_missing(inferred: Seen, traced: Seen) -> None:
    assert traced.said == []
    assert traced.source == "tracefs+multicast"
    (sentence,) = inferred.said
    assert "no process is named" in sentence
    assert inferred.source == "multicast"
    assert all(close.closer is None and not close.observed for close in inferred.closes)


def one_close(port: int) -> None:
    """End one connection."""
    with endings.listen(port) as listener:
        client, server = endings.connected(listener)
        server.close()
        client.recv(1)
        client.close()


@pytest.mark.parametrize("source", ["auto", "multicast"])
@pytest.mark.parametrize("bound", ["::1", "::"])
def test_ipv6_and_dual_stack_listeners_are_told(bound: str, source: str) -> None:
    if source == "auto":
        needs_tracefs()

    def work() -> None:
        listener = endings.socket.socket(endings.socket.AF_INET6)
        listener.bind((bound, 7104))
        listener.listen()
        if bound == "::":
            client = endings.call(7104)
        else:
            client = endings.socket.socket(endings.socket.AF_INET6)
            client.connect((bound, 7104))
        server, _ = listener.accept()
        server.close()
        client.recv(1)
        client.close()
        time.sleep(0.1)
        listener.close()

    seen = in_private(lambda: watch(work, source), tracefs=source == "auto")
    expected = "::1" if bound == "::1" else "127.0.0.1"
    assert {(c.local, c.remote) for c in seen.closes} == {(expected, expected)}
    by_end = {close.local_port == 7104: (close.first, close.opened) for close in seen.closes}
    assert by_end == {True: (ClosedBy.HERE, Opened.IN), False: (ClosedBy.PEER, Opened.OUT)}
    assert seen.losses.elsewhere == 0 or source == "auto"


def test_another_namespaces_closes_are_counted_and_not_told() -> None:
    needs_tracefs()

    def work() -> None:
        one_close(7100)
        child = os.fork()
        if child == 0:
            from twdiag.lab.network import enter_private

            enter_private()
            one_close(7101)
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(1.2)

    seen = in_private(lambda: watch(work, "auto"), tracefs=True)
    assert {close.local_port for close in seen.closes} | {
        close.remote_port for close in seen.closes
    } >= {7100}
    assert not [c for c in seen.closes if 7101 in (c.local_port, c.remote_port)]
    assert len(seen.closes) == 2
    assert seen.losses.elsewhere >= 2  # other tests may run on this host


def test_a_reset_connection_whose_descriptor_stays_open_is_told_all_the_same() -> None:
    needs_tracefs()

    def work() -> None:
        with endings.listen(7102) as listener:
            client, server = endings.connected(listener)
            server.setsockopt(
                endings.socket.SOL_SOCKET,
                endings.socket.SO_LINGER,
                endings.struct.pack("ii", 1, 0),
            )
            server.close()
            time.sleep(3.0)
            client.close()

    def alone() -> Seen:
        from twdiag.engine import following as module

        module._OwnAddresses.holds = lambda self, address: True  # type: ignore[method-assign]
        return watch(work, "auto")

    seen = in_private(alone, tracefs=True)
    (held,) = [close for close in seen.closes if close.remote_port == 7102]
    assert held.open
    assert (held.first, held.why) == (ClosedBy.PEER, Why.RESET)
    # Its later close() is not another end; other tests may run on this host.
    ends = [close for close in seen.closes if 7102 in (close.local_port, close.remote_port)]
    assert len(ends) == 2


def test_it_ends_when_the_time_is_over() -> None:
    def work() -> tuple[float, float]:
        become_nobody()
        began = time.monotonic()
        outcome = trace(TraceRequest(seconds=0.3), Hooks())
        return outcome.seconds, time.monotonic() - began

    seconds, whole = in_private(work)
    assert 0.3 <= seconds <= whole


def test_only_what_is_asked_for_is_told() -> None:
    close = make_close(local_port=80, remote_port=4000)
    assert TraceRequest().asks_for(close)
    assert TraceRequest(ports=frozenset({80})).asks_for(close)
    assert TraceRequest(ports=frozenset({4000})).asks_for(close)
    assert not TraceRequest(ports=frozenset({443})).asks_for(close)
    assert not TraceRequest(processes=frozenset({"nginx"})).asks_for(close)


@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_only_the_ports_that_are_asked_for_are_told(source: str) -> None:
    if source == "auto":
        needs_tracefs()

    def work() -> None:
        for port in (7105, 7106, 7107):
            one_close(port)

    def watched() -> Seen:
        return watch(work, source, ports=frozenset({7105, 7107}))

    seen = in_private(watched, tracefs=source == "auto")
    servers = Counter(close.local_port for close in seen.closes if close.first is ClosedBy.HERE)
    assert servers == {7105: 1, 7107: 1}
    assert len(seen.closes) == 4


def make_close(*, local_port: int, remote_port: int) -> Close:
    """Return a close of which only the ports matter."""
    from twdiag.model.closes import Close

    return Close(0.0, 2, "10.0.0.1", local_port, "10.0.0.2", remote_port)


def refusal(request: TraceRequest) -> tuple[str, str] | None:
    """Return what a trace that cannot be had says, None where it can be had."""
    try:
        trace(request, Hooks(stop=lambda: True))
    except TwdiagError as error:
        return error.what, error.next_step
    return None


def test_a_process_cannot_be_asked_for_without_rights() -> None:
    def work() -> tuple[str, str] | None:
        become_nobody()
        return refusal(TraceRequest(processes=frozenset({"nginx"})))

    said = in_private(work)
    assert said is not None
    assert "which process closes is not to be seen" in said[0]


def test_a_source_that_is_named_is_not_replaced() -> None:
    def work() -> tuple[str, str] | None:
        become_nobody()
        return refusal(TraceRequest(source="tracefs"))

    said = in_private(work)
    assert said is not None
    assert "tra" in said[0]


@can_filter
def test_without_netlink_and_without_rights_there_is_one_sentence() -> None:
    def work() -> tuple[str, str] | None:
        become_nobody()
        forbid_netlink(1)
        return refusal(TraceRequest())

    said = in_private(work)
    assert said is not None
    assert said[0].startswith("no source tells of ending connections: ")


@can_filter
def test_without_netlink_root_is_told_of_all_namespaces() -> None:
    needs_tracefs()

    def watched() -> Seen:
        forbid_netlink(1)
        return watch(lambda: one_close(7103), "auto")

    seen = in_private(watched, tracefs=True)
    assert seen.source == "tracefs"
    assert "all network namespaces" in seen.said[0]
    ours = [c for c in seen.closes if 7103 in (c.local_port, c.remote_port)]
    assert Counter(close.first for close in ours) == {ClosedBy.HERE: 1, ClosedBy.PEER: 1}


def test_nothing_is_left_behind_whatever_ends_it() -> None:
    needs_tracefs()

    def left() -> list[str]:
        mount_tracefs()

        class Boom(Exception):
            pass

        def stop() -> bool:
            raise Boom

        with contextlib.suppress(Boom):
            trace(TraceRequest(), Hooks(stop=stop))
        mine = f"twdiag-{os.getpid()}-"
        return [n for n in os.listdir("/sys/kernel/tracing/instances") if n.startswith(mine)]

    assert in_child(left) == []


def test_a_killed_trace_stops_by_itself_and_is_swept_by_the_next() -> None:
    needs_tracefs()

    def killed() -> list[tuple[str, bool]]:
        mount_tracefs()
        instances = "/sys/kernel/tracing/instances"
        found = []
        for delay in (0.0, 0.003, 0.03, 0.2):
            child = os.fork()
            if child == 0:
                trace(TraceRequest(), Hooks())
                os._exit(0)
            deadline = time.monotonic() + 10
            mine = f"twdiag-{child}-"
            while not any(n.startswith(mine) for n in os.listdir(instances)):
                assert time.monotonic() < deadline
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            for name in os.listdir(instances):
                if not name.startswith(mine):
                    continue
                folder, tracing = f"{instances}/{name}", False
                with (
                    contextlib.suppress(OSError),  # another trace on this host has swept it
                    open(f"{folder}/tracing_on") as on,
                    open(f"{folder}/set_event") as events,
                ):
                    tracing = on.read().strip() == "1" and bool(events.read().strip())
                found.append(("still tracing" if tracing else "stopped", True))
            tracefs.sweep("/sys/kernel/tracing")
            gone = not any(n.startswith(mine) for n in os.listdir(instances))
            found.append(("swept", gone))
        return found

    outcome = in_child(killed)
    assert ("still tracing", True) not in outcome
    assert [gone for what, gone in outcome if what == "swept"] == [True] * 4


def test_a_live_ones_instance_is_not_swept() -> None:
    needs_tracefs()

    def swept() -> bool:
        mount_tracefs()
        with Tracer() as tracer:
            child = os.fork()
            if child == 0:
                tracefs.sweep("/sys/kernel/tracing")
                os._exit(0)
            os.waitpid(child, 0)
            return os.path.isdir(tracer._folder)

    assert in_child(swept)


def test_where_there_is_no_tracefs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "ROOTS", ("/nowhere/tracing", "/nowhere/else"))
    with pytest.raises(SourceRefused, match="no tracing"):
        tracefs.find()
    monkeypatch.setattr(tracefs, "ROOTS", ("/", "/nowhere"))
    with pytest.raises(SourceRefused, match="not mounted"):
        tracefs.find()
    assert issubclass(SourceRefused, SourceError)


@pytest.mark.parametrize(
    ("error", "lockdown", "uid", "said"),
    [
        (PermissionError(1, "no"), "none integrity [confidentiality]", 0, "locked down"),
        (PermissionError(1, "no"), "[none] integrity", 0, "a container"),
        (PermissionError(13, "no"), "[none]", 1000, "needs root"),
        (OSError(28, "No space left on device"), "[none]", 0, "No space left on device"),
    ],
)
def test_each_refusal_is_told_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, error: OSError, lockdown: str, uid: int, said: str
) -> None:
    monkeypatch.setattr(tracefs, "read", lambda path: lockdown)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert said in tracefs._refusal(error).what


def test_what_ends_after_the_stop_is_not_guessed_at() -> None:
    needs_tracefs()

    def traced_on_a_busy_host() -> list[Close]:
        children: list[int] = []
        closes: list[Close] = []

        def begin() -> None:
            children.append(os.fork())
            if not children[0]:
                with contextlib.suppress(BaseException), endings.listen(7_222) as listener:
                    while True:
                        client, server = endings.connected(listener)
                        server.close()
                        client.recv(1)
                        client.close()
                        time.sleep(0.002)
                os._exit(1)

        def is_enough() -> bool:
            return len(closes) > 50

        try:
            trace(TraceRequest(seconds=20), Hooks(closes.append, stop=is_enough, ready=begin))
        finally:
            os.kill(children[0], signal.SIGKILL)
            os.waitpid(children[0], 0)
        return closes

    closes = in_private(traced_on_a_busy_host, tracefs=True)
    assert len(closes) > 50
    assert [close for close in closes if not close.observed or close.closer is None] == []
