"""Real connections that idle: who gives them up, after how long, and which requests are lost."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.engine import endings
from tests.engine.privately import become_nobody, in_private, needs_tracefs
from twdiag.engine import idle, look
from twdiag.engine.look import Question, looked
from twdiag.engine.trace import Hooks, TraceRequest, trace
from twdiag.lab import kernel
from twdiag.lab.network import MAIN_ADDRESS, connect_peer
from twdiag.lab.scenarios.close_wait_idle_pool import TLS_1_2_CLOSE_NOTIFY
from twdiag.rules import keep_alive_race

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from twdiag.model.findings import Report
    from twdiag.model.idling import Idling, Watched

PORT: Final = 7230
IDLE: Final = 0.4
TIMES: Final = 3


def watched(work: Callable[[], None], source: str = "multicast") -> Watched:
    """Return how connections idled while a child process worked."""
    children: list[int] = []
    ended: list[float] = []

    def ready() -> None:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                work()
                os._exit(0)
            os._exit(1)
        children.append(child)

    def stop() -> bool:
        if children:
            pid, code = os.waitpid(children[0], os.WNOHANG)
            if pid:
                assert code == 0
                children.clear()
                ended.append(time.monotonic())
        return bool(ended) and time.monotonic() > ended[0] + 0.3

    found = trace(
        TraceRequest(frozenset({PORT}), source=source), Hooks(stop=stop, ready=ready)
    ).watched
    assert found is not None
    return found


@contextlib.contextmanager
def meanwhile(deed: Callable[[], None]) -> Iterator[None]:
    """Have a child process that does something again and again until the end of the block."""
    stays, leave = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(leave)
        with contextlib.suppress(BaseException):
            while not select.select([stays], [], [], 0)[0]:
                deed()
        os._exit(0)
    os.close(stays)
    try:
        yield
    finally:
        os.close(leave)
        os.waitpid(child, 0)


def only(found: Watched) -> Idling:
    """Return what was seen of the only listener."""
    (idling,) = [one for one in found.idling if one.local_port == PORT]
    return idling


def ask(client: socket.socket, server: socket.socket) -> None:
    """Send a request and its answer."""
    client.sendall(b"request")
    server.recv(7)
    server.sendall(b"answer")
    client.recv(6)


def each(end: Callable[[socket.socket, socket.socket], None], pauses: tuple[float, ...]) -> None:
    """Use some connections after pauses, and end each."""
    for _ in range(TIMES):
        with endings.listen(PORT) as listener:
            client, server = endings.connected(listener)
            ask(client, server)
            for pause in pauses:
                time.sleep(pause)
                ask(client, server)
            end(client, server)
            client.close()
            server.close()


def server_gives_up(client: socket.socket, server: socket.socket) -> None:
    """Let the server close after its idle timeout, and the client see it."""
    time.sleep(IDLE)
    server.close()
    client.recv(1)


def client_gives_up(client: socket.socket, server: socket.socket) -> None:
    """Let the client close first."""
    time.sleep(IDLE)
    client.close()
    server.recv(1)


REQUEST: Final = b"GET / HTTP/1.1\r\nHost: here\r\nCookie: %s\r\n\r\n" % (b"x" * 80)


def request_meets_close(client: socket.socket, server: socket.socket) -> None:
    """Let the client send once more after the server has closed."""
    time.sleep(IDLE)
    server.close()
    time.sleep(0.3)
    with contextlib.suppress(ConnectionError):
        client.sendall(REQUEST)
        client.recv(1)


def client_says_goodbye_late(client: socket.socket, server: socket.socket) -> None:
    """Let the client notice the close when it cleans up its pool, and say goodbye then."""
    time.sleep(IDLE)
    server.close()
    time.sleep(0.3)
    with contextlib.suppress(ConnectionError):
        client.sendall(TLS_1_2_CLOSE_NOTIFY)


def server_reads_on(client: socket.socket, server: socket.socket) -> None:
    """Let the server send its FIN and read on, and the client send a request meanwhile."""
    time.sleep(IDLE)
    server.shutdown(socket.SHUT_WR)
    time.sleep(0.6)
    client.sendall(REQUEST)
    time.sleep(0.3)
    server.recv(1 << 16)


def client_has_last_words(client: socket.socket, server: socket.socket) -> None:
    """Let the client answer the server's close, as TLS, MySQL and HTTP/2 do, and close too."""
    time.sleep(IDLE)
    server.close()
    client.recv(1)
    with contextlib.suppress(ConnectionError):
        client.sendall(TLS_1_2_CLOSE_NOTIFY)


def closes_after_answer(client: socket.socket, server: socket.socket) -> None:
    """Let the server close at once, as Connection: close asks it to."""
    server.close()
    client.recv(1)


@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_the_idle_timeout_of_a_server_is_measured(source: str, tmp_path: Path) -> None:
    if source == "auto":
        needs_tracefs()
    took = tmp_path / "took"

    def gives_up(client: socket.socket, server: socket.socket) -> None:
        began = time.monotonic()
        server_gives_up(client, server)
        with took.open("a") as file:
            file.write(f"{time.monotonic() - began}\n")

    found = in_private(
        lambda: watched(lambda: each(gives_up, (0.5,)), source), tracefs=source == "auto"
    )
    ends = only(found).ends
    assert len(ends) == TIMES
    # A busy host is late; and without trace events the idle time is that up to the moment in which
    # the FIN was acknowledged.
    late = max(map(float, took.read_text().split())) - IDLE
    assert all(IDLE - 0.02 <= end.idle < IDLE + late + 0.3 for end in ends)
    assert all(end.requests == 2 for end in ends)
    assert not any(end.lost for end in ends)


def test_a_pause_before_another_request_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_OFTEN", 0.02)
    monkeypatch.setattr(idle, "SHARE", float("inf"))
    for _ in range(5):  # a host that is busy may look too seldom to see it
        found = in_private(lambda: watched(lambda: each(server_gives_up, (0.6,))))
        pauses = [end.reused_after for end in only(found).ends]
        if all(pause is not None and pause >= 0.3 for pause in pauses):
            break
    else:
        pytest.fail(f"the pauses of 0.6 s were seen as {pauses}")
    open_for = only(found).open_for
    assert open_for is not None
    assert open_for >= 0.3


@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_a_request_of_a_client_here_that_meets_the_close_is_lost(source: str) -> None:
    if source == "auto":
        needs_tracefs()
    found = in_private(
        lambda: watched(lambda: each(request_meets_close, ()), source), tracefs=source == "auto"
    )
    assert [end.lost for end in only(found).ends] == [True] * TIMES


@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_what_a_client_says_in_answer_to_the_close_is_no_lost_request(source: str) -> None:
    if source == "auto":
        needs_tracefs()
    found = in_private(
        lambda: watched(lambda: each(client_has_last_words, ()), source), tracefs=source == "auto"
    )
    assert not any(end.lost for one in found.idling for end in one.ends)
    assert source != "auto" or len(only(found).ends) == TIMES


@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_a_late_goodbye_is_not_said_to_be_a_lost_request(source: str) -> None:
    if source == "auto":
        needs_tracefs()
    found = in_private(
        lambda: watched(lambda: each(client_says_goodbye_late, ()), source),
        tracefs=source == "auto",
    )
    assert [(end.lost, end.late) for end in only(found).ends] == [(False, True)] * TIMES


@pytest.mark.parametrize("source", ["auto", "multicast"])
def test_a_request_that_a_server_reads_after_its_fin_is_lost(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "_OFTEN", 0.02)
    monkeypatch.setattr(idle, "SHARE", float("inf"))
    if source == "auto":
        needs_tracefs()
    found = in_private(
        lambda: watched(lambda: each(server_reads_on, ()), source), tracefs=source == "auto"
    )
    ends = only(found).ends
    assert [end.lost for end in ends] == [True] * TIMES
    assert all(IDLE - 0.02 <= end.idle < IDLE + 0.6 for end in ends)


def test_late_data_from_another_host_may_be_a_lost_request() -> None:
    needs_tracefs()

    def elsewhere() -> Watched:
        peer = connect_peer()

        def work() -> None:
            with socket.create_server((MAIN_ADDRESS, PORT)) as listener:
                for _ in range(TIMES):
                    client = os.fork()
                    if client == 0:
                        kernel.setns(peer)
                        with socket.create_connection((MAIN_ADDRESS, PORT)) as end:
                            end.sendall(b"request")
                            end.recv(6)
                            end.recv(1)  # the server's FIN
                            time.sleep(0.3)
                            with contextlib.suppress(ConnectionError):
                                end.sendall(REQUEST)
                                end.recv(1)
                        os._exit(0)
                    server, _ = listener.accept()
                    server.recv(7)
                    server.sendall(b"answer")
                    time.sleep(IDLE)
                    server.close()
                    os.waitpid(client, 0)

        return watched(work, "auto")

    found = in_private(elsewhere, tracefs=True)
    assert found.sees_lost
    assert [(end.lost, end.late) for end in only(found).ends] == [(False, True)] * TIMES


@pytest.mark.parametrize(("end", "by_peers"), [(client_gives_up, TIMES), (closes_after_answer, 0)])
def test_clients_that_close_first_and_servers_that_always_do_are_no_race(
    end: Callable[[socket.socket, socket.socket], None], by_peers: int
) -> None:
    found = in_private(lambda: watched(lambda: each(end, ())))
    ends = [e for one in found.idling for e in one.ends]
    assert ends == []
    assert sum(len(one.by_peers) for one in found.idling) == by_peers


def test_a_server_that_is_killed_gives_nothing_up() -> None:
    needs_tracefs()

    def work() -> None:
        with endings.listen(PORT) as listener:
            pairs = [endings.connected(listener) for _ in range(TIMES)]
            for client, server in pairs:
                ask(client, server)
        owner = os.fork()
        if owner == 0:
            signal.pause()
        for _, server in pairs:
            server.close()
        time.sleep(IDLE)
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
        time.sleep(0.1)
        for client, _ in pairs:
            client.close()

    found = in_private(lambda: watched(work, "auto"), tracefs=True)
    assert [end for one in found.idling for end in one.ends] == []


def test_any_user_is_told_by_two_looks() -> None:
    def found() -> Report:
        with endings.listen(PORT) as listener:

            def pooled() -> None:
                client, server = endings.connected(listener)
                ask(client, server)
                request_meets_close(client, server)
                client.close()

            with meanwhile(pooled):
                become_nobody()
                return looked(Question(rules=(keep_alive_race.RULE,), interval=3.0)).report

    report = in_private(found)
    (finding,) = report.findings
    assert finding.evidence["lost_requests"]
    assert report.skipped == ()


def test_a_source_that_shows_no_closes_is_a_skip() -> None:
    question = Question("proc", rules=(keep_alive_race.RULE,), interval=0.1)
    report = in_private(lambda: looked(question).report)
    assert [skip.rule for skip in report.skipped] == [keep_alive_race.NAME]


def test_a_look_does_not_follow_a_host_on_which_very_many_connections_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(look, "_MOST_ENDS", 10)

    def busy() -> None:
        each(closes_after_answer, ())
        time.sleep(0.01)

    def found() -> tuple[Report, float]:
        with meanwhile(busy):
            began = time.monotonic()
            report = looked(Question(interval=3.0)).report
            return report, time.monotonic() - began

    report, seconds = in_private(found)
    (gap,) = [gap for gap in report.gaps if gap.what == "idling"]
    assert gap.why.startswith("so many connections end that only ")
    assert seconds >= 3.0  # the two samples are as far apart as was asked
