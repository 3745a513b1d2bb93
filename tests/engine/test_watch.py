"""Watching real sockets: known workloads are told, owners are named, and the cost stays bounded."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine import endings
from tests.engine.privately import become_nobody, in_private, needs_tracefs
from tests.sources.live.confinement import can_filter, forbid_netlink
from twdiag import lab
from twdiag.analysis.closers import added_up
from twdiag.engine.follower import Account
from twdiag.engine.watch import MOST, Watch, WatchRequest
from twdiag.errors import SourceError, SourceRefused, TwdiagError, UsageError
from twdiag.model.findings import Severity
from twdiag.rules import keep_alive_race
from twdiag.sources.live.proc import read_counters

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.engine.frames import Frame

PORT: Final = 7500
TIMES: Final = 23
PATIENCE: Final = 20.0


def close_some(listener: socket.socket, number: int = TIMES) -> None:
    """Close some connections, the server first."""
    for _ in range(number):
        client, server = endings.connected(listener)
        server.close()
        client.recv(1)
        client.close()


def frame_with(watched: Watch, wanted: Callable[[Frame], object]) -> Frame:
    """Return the first frame that is as wanted, reading ends as the screen does."""
    until = time.monotonic() + PATIENCE
    while True:
        for _ in range(5):
            watched.step()
            time.sleep(0.02)
        frame = watched.look()
        if wanted(frame) or time.monotonic() > until:
            return frame


def counted(watched: Watch) -> Counter[tuple[str, str]]:
    """Return how many ends were told, by the side of the service and who closed first."""
    found: Counter[tuple[str, str]] = Counter()
    for (where, what), number in added_up(ends for _, ends in watched._memory.ends).counts.items():
        found[str(where[0]), what] += number
    return found


def all_told(watched: Watch) -> Frame:
    """Return the first frame by which both ends of all connections were told."""
    return frame_with(watched, lambda _: sum(counted(watched).values()) >= 2 * TIMES)


SERVER_FIRST: Final = {("in", "here"): TIMES, ("out", "peer"): TIMES}


def test_as_root_each_close_is_told_with_its_process() -> None:
    needs_tracefs()

    def work() -> tuple[Counter[tuple[str, str]], Frame, int]:
        # Of this port alone: the kernel lets the host's other tests out of the buffers.
        with endings.listen(PORT) as listener, Watch(WatchRequest(ports=(PORT,))) as watched:
            watched.look()
            close_some(listener)
            frame = all_told(watched)
            return counted(watched), frame, os.getpid()

    told, frame, pid = in_private(work, tracefs=True)
    assert told == SERVER_FIRST
    rows = {entry.row.end: entry.row for entry in frame.processes}
    server, client = rows[f"on :{PORT}"], rows[f"to 127.0.0.1:{PORT}"]
    assert server.pids == client.pids == (pid,)
    assert server.first > 0 == server.after
    assert client.after > 0 == client.first


def test_anybody_is_told_who_closes_first_and_that_no_process_is_named() -> None:
    def work() -> tuple[Counter[tuple[str, str]], Frame]:
        become_nobody()
        with endings.listen(PORT) as listener, Watch(WatchRequest()) as watched:
            watched.look()
            close_some(listener)
            frame = all_told(watched)
            return counted(watched), frame

    # Where two ends are read at once, on a busy machine, nobody can say who was first: once more.
    for _ in range(3):
        told, frame = in_private(work)
        if told == SERVER_FIRST:
            break
    assert told == SERVER_FIRST
    assert not frame.processes
    assert "no process is named" in frame.following.sentence
    rows = {entry.row.kind: entry.row.firsts for entry in frame.closers}
    assert rows["server"].here > 0 == rows["server"].peer
    assert rows["client"].peer > 0 == rows["client"].here


@can_filter
def test_without_netlink_the_rest_is_shown_and_why() -> None:
    def work() -> Frame:
        with endings.listen(PORT) as listener:
            close_some(listener)
            forbid_netlink(1)
            with Watch(WatchRequest()) as watched:
                watched.look()
                return watched.look()

    frame = in_private(work)
    assert frame.following.source == ""
    assert "no source tells of ending connections" in frame.following.sentence
    assert [entry.row.time_wait for entry in frame.closers] == [TIMES]
    assert any(gap.what == "netlink" for gap in frame.report.gaps)


@can_filter
def test_a_source_that_was_asked_for_and_is_not_there_is_refused() -> None:
    def work() -> str:
        forbid_netlink(1)
        try:
            with Watch(WatchRequest(closes="multicast")):
                return ""
        except SourceError as error:
            return error.what

    assert in_private(work)


def test_a_leak_is_named_and_grows() -> None:
    def work() -> list[tuple[str, int, int | None]]:
        with endings.listen(PORT) as listener, Watch(WatchRequest(closes="none")) as watched:
            kept: list[socket.socket] = []
            for number in (3, 6):
                while len(kept) < number:
                    client, server = endings.connected(listener)
                    client.close()
                    kept.append(server)

                def has_all(frame: Frame, number: int = number) -> bool:
                    return any(entry.row.sockets == number for entry in frame.leaks)

                frame = frame_with(watched, has_all)
            return [(e.row.name, e.row.sockets, e.row.grown) for e in frame.leaks]

    ((name, sockets, grown),) = in_private(work)  # no row of sockets not yet looked for
    assert "(pid " in name
    assert sockets == 6
    assert grown in (3, 6)  # since the first look, which the first sockets may have been in


def test_a_quiet_host_stays_quiet() -> None:
    def work() -> list[tuple[Severity, int]]:
        with endings.listen(PORT) as listener, Watch(WatchRequest(closes="none")) as watched:
            close_some(listener, 5)
            frames = [watched.look() for _ in range(5)]
            return [(frame.report.status, len(frame.findings)) for frame in frames]

    assert set(in_private(work)) == {(Severity.OK, 0)}


def test_rules_compare_two_looks() -> None:
    """An accept queue that overflows between two looks is told, as with --interval."""

    def work() -> set[str]:
        with socket.socket() as listener, Watch(WatchRequest(closes="none")) as watched:
            listener.bind(("127.0.0.1", PORT))
            listener.listen(0)
            watched.look()
            clients = []
            for _ in range(6):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", PORT))
                clients.append(client)
            until = time.monotonic() + PATIENCE
            while not read_counters()[0]["TcpExt.ListenOverflows"] and time.monotonic() < until:
                time.sleep(0.01)
            found = {finding.rule for finding in watched.look().report.findings}
            for client in clients:
                client.close()
            return found

    assert "accept-queue-full" in in_private(work)


@pytest.mark.parametrize(
    ("name", "expected"), [("keep-alive-race", True), ("keep-alive-in-order", False)]
)
def test_requests_that_meet_a_close_are_told_while_it_is_watched(name: str, expected: bool) -> None:
    def watched(stage: lab.Stage) -> bool:
        stage.go_on()
        with Watch(WatchRequest(interval=0.2)) as watch:
            end = time.monotonic() + (PATIENCE if expected else 5.0)
            while time.monotonic() < end:
                watch.step()
                time.sleep(0.1)
                frame = watch.look()
                if any(f.rule == keep_alive_race.NAME for f in frame.report.findings):
                    return True
            return False

    scenario = next(one for one in lab.SCENARIOS if one.name == name)
    play = lab.start(scenario, watched)
    try:
        found = play.result(timeout=90)
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        play.close()
    assert found is expected


def test_no_memory_is_kept_of_looks_long_ago() -> None:
    def work() -> int:
        with Watch(WatchRequest(closes="none")) as watched:
            for _ in range(4):
                watched.look()
            depth, snapshot = 0, watched._compared.earlier
            while snapshot is not None:
                depth, snapshot = depth + 1, snapshot.earlier
            return depth

    assert in_private(work) == 1


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan")])
def test_an_interval_that_makes_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(UsageError, match="--interval"):
        Watch(WatchRequest(interval=interval))


@pytest.mark.parametrize(
    "request_of", [{"select": ("no-such-rule",)}, {"limits": ("no-such-limit=1",)}]
)
def test_words_that_mean_nothing_are_refused(request_of: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(TwdiagError):
        Watch(WatchRequest(**request_of))  # type: ignore[arg-type]


# What it may cost.


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 5)), min_size=1, max_size=200))
def test_no_more_is_spent_than_earned_and_saved(steps: list[tuple[float, float]]) -> None:
    account, now, spent, most = Account(MOST, 0.15, 0.0), 0.0, 0.0, 0.0
    for passed, wish in steps:
        now += passed
        if account.balance(now) >= 0:
            most = max(most, wish)
            account.spend(wish)
            spent += wish
        # The last look may cost what it likes; the next one waits until it is paid.
        assert spent <= MOST * now + 0.15 + most + 1e-9


@given(st.floats(0.001, 5))
def test_what_was_spent_is_waited_for(spent: float) -> None:
    account = Account(MOST, 0.15, 0.0)
    account.spend(spent)
    wait = account.wait(0.0)
    assert wait == pytest.approx(max(0.0, spent - 0.15) / MOST)
    assert account.balance(wait + 0.001) >= 0


def test_looks_that_cost_too_much_come_later() -> None:
    def work() -> tuple[float, float]:
        with Watch(WatchRequest(interval=0.001, closes="none")) as watched:
            spent, began = time.process_time(), time.monotonic()
            while time.monotonic() < began + 4:
                if time.monotonic() >= watched.due:
                    watched.look()
                time.sleep(0.005)
            return time.process_time() - spent, time.monotonic() - began

    spent, passed = in_private(work)
    # What was saved, the first look, which loads what all need, and one look too much come on top.
    assert spent < 2 * MOST * passed + 0.6


def test_ends_that_cost_too_much_are_sampled_until_the_host_is_quiet_again() -> None:
    def work() -> tuple[bool, float, bool, float]:
        with endings.listen(PORT), Watch(WatchRequest()) as watched:
            watched.look()
            follower = watched._follower
            follower._spend(10.0)  # as a burst of a million connections would
            watched.step()
            watched.step()
            rests, share = follower._followed is None, watched.look().following.share
            follower._account.spend(-20.0)  # a long quiet time
            until = time.monotonic() + PATIENCE
            while follower._followed is None and time.monotonic() < until:
                watched.step()
            return rests, share, follower._followed is not None, watched.look().following.share

    rests, share, again, later = in_private(work)
    assert (rests, again) == (True, True)
    assert share < 1
    assert later > 0


def test_a_sample_tells_all_that_ends_meanwhile() -> None:
    def work() -> tuple[int, int, bool]:
        with endings.listen(PORT) as listener, Watch(WatchRequest()) as watched:
            watched.look()
            follower = watched._follower
            follower.end()
            follower._sampled = 0.25
            worker = threading.Thread(target=close_for, args=(listener, 1.0))
            worker.start()
            until = time.monotonic() + PATIENCE
            while not follower._counter._counts and time.monotonic() < until:
                follower._account.spend(-1.0)
                follower.step()
            worker.join()
            counted: Counter[str] = Counter()
            for (where, _), number in follower._counter._counts.items():
                counted[str(where[0])] += number
            return counted["in"], counted["out"], follower._seconds >= 0.2

    served, called, long_enough = in_private(work)
    assert long_enough
    assert served > 0
    assert abs(served - called) <= 3  # those that were under way at an edge


def close_for(listener: socket.socket, seconds: float) -> None:
    """Close connections for some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        close_some(listener, 1)
        time.sleep(0.002)
