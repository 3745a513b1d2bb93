"""Frames folded from looks: rates, growth, rows that keep their place, and what concerns what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made import (
    SYSCTLS,
    aged,
    close_wait,
    closed_first,
    held,
    listening,
    report_of,
    snapshot_of,
    time_wait,
)
from twdiag.analysis.closers import Ended, EndsCounter
from twdiag.analysis.half_closed import CloseWaitKind
from twdiag.analysis.view import View
from twdiag.analysis.wanted import EVERYTHING, Wanted
from twdiag.engine.folding import ScreenMemory, fold, pace
from twdiag.engine.frames import PARTS, Following, Sight, related
from twdiag.model import facts
from twdiag.model.closes import Close, ClosedBy, Closer, How, Opened
from twdiag.model.snapshot import Gap, Owner
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import Played
    from twdiag.engine.frames import Frame
    from twdiag.model.snapshot import Snapshot

TRACED = Following("tracefs+multicast")


def sight(at: float, snapshot: Snapshot, **changes: Any) -> Sight:
    """Return a look at a snapshot."""
    return Sight(at, report_of(snapshot), View(snapshot), **changes)


def frames(sights: Iterable[Sight], wanted: Wanted = EVERYTHING) -> list[Frame]:
    """Return the frames of some looks, one after the other."""
    memory, found = ScreenMemory(), []
    for one in sights:
        memory, frame = fold(memory, one, wanted)
        found.append(frame)
    return found


def counted(**counters: int) -> Snapshot:
    """Return a host with some counters, written with an underscore: Tcp_ActiveOpens=5."""
    return snapshot_of(counters={k.replace("_", ".", 1): v for k, v in counters.items()})


def ended(*closes: Close, seconds: float = 1.0) -> Ended:
    """Return some ends that were followed for a while."""
    counter = EndsCounter()
    for close in closes:
        counter.add(close)
    return counter.take(seconds)


SERVED = Close(
    0.0, 2, "10.0.0.1", 443, "10.1.0.1", 40000, ClosedBy.HERE, How.FIN, opened=Opened.IN,
    closer=Closer(916, 915, "nginx", "nginx"),
)  # fmt: skip
CALLED = Close(
    0.0, 2, "10.0.0.1", 40000, "10.0.0.5", 5432, ClosedBy.PEER, How.RST, opened=Opened.OUT,
    closer=Closer(77, 77, "python", "python"),
)  # fmt: skip


def test_the_first_frame_knows_no_growth() -> None:
    (frame,) = frames([sight(0, snapshot_of(*aged(close_wait(5), 120), owners=held(5, 9, 1024)))])
    assert {rate.now for rate in frame.rates.values()} == {None}
    assert (frame.leaks[0].row.sockets, frame.leaks[0].row.grown) == (5, None)
    assert frame.budgets[0].row.growth is None
    assert frame.close_wait_grown is None


def test_rates_are_of_the_last_seconds_and_of_the_minute() -> None:
    looks = [sight(at, counted(Tcp_ActiveOpens=10 * at)) for at in range(61)]
    looks.append(sight(64, counted(Tcp_ActiveOpens=1000)))
    rate = frames(looks)[-1].rates["opened_out"]
    assert rate.now == (1000 - 600) / 4  # since the newest look that is three seconds old
    assert rate.minute == (1000 - 40) / 60


def test_a_rate_ends_within_three_seconds_of_its_burst() -> None:
    opens = [0, 100, 200, 300, 300, 300, 300]
    looks = [sight(at, counted(Tcp_PassiveOpens=n)) for at, n in enumerate(opens)]
    assert frames(looks)[-1].rates["opened_in"].now == 0


def test_a_counter_that_is_not_seen_has_no_rate_and_one_counted_anew_neither() -> None:
    looks = [sight(0, counted(Tcp_OutRsts=50)), sight(1, counted(Tcp_OutRsts=20))]
    rates = frames(looks)[-1].rates
    assert rates["resets_sent"].now is None
    assert rates["failed"].now is None


def test_the_pace_is_of_the_last_seconds() -> None:
    memory, _ = fold(ScreenMemory(), sight(0, counted(TcpExt_TW=100)))
    assert pace(ScreenMemory(), counted(TcpExt_TW=5), 1.0) is None
    found = pace(memory, counted(TcpExt_TW=130), 2.0)
    assert found is not None
    assert (found.seconds, found.grown["TcpExt.TW"]) == (2.0, 30)


def test_a_leak_grows() -> None:
    looks = [
        sight(at, snapshot_of(*aged(close_wait(n), 120), owners=held(n, n, 1024)))
        for at, n in ((0, 10), (10, 13), (20, 17))
    ]
    last = frames(looks)[-1]
    (leak,) = [entry.row for entry in last.leaks]
    assert (leak.name, leak.sockets, leak.grown, leak.seconds) == ("java (pid 812)", 17, 7, 20)
    assert leak.age == pytest.approx(120)
    assert last.close_wait_grown == 7


def test_a_leak_that_begins_was_none_before() -> None:
    looks = [
        sight(0, snapshot_of()),
        sight(5, snapshot_of(*close_wait(4), owners=held(4, 9, 1024))),
    ]
    assert frames(looks)[-1].leaks[0].row.grown == 4


def test_growth_is_of_a_minute_at_most() -> None:
    looks = [
        sight(at, snapshot_of(*close_wait(1 + at), owners=held(1 + at, 9, 1024)))
        for at in range(0, 200, 10)
    ]
    leak = frames(looks)[-1].leaks[0].row
    assert (leak.grown, leak.seconds) == (60, 60)


def test_a_minute_of_many_looks_is_remembered_in_few_samples() -> None:
    memory = ScreenMemory()
    snapshot = snapshot_of()
    for number in range(1000):
        memory, _ = fold(memory, sight(number / 10, snapshot))
    assert 60 <= len(memory.samples) <= 80
    assert memory.samples[0].at <= 99.9 - 60


def test_descriptors_fill_at_the_rate_they_grow() -> None:
    looks = [
        sight(at, snapshot_of(crowded=(Owner(812, "java", "app", 900 + 2 * at, 1024),)))
        for at in (0, 10)
    ]
    budget = next(e.row for e in frames(looks)[-1].budgets if e.row.kind == "descriptors")
    assert (budget.used, budget.size, budget.growth) == (920, 1024, 2.0)
    assert budget.full_in == (1024 - 920) / 2


def test_a_time_wait_table_that_grows_does_not_fill_for_that() -> None:
    """Each TIME_WAIT ends after a minute: where the number settles is said, not when it is full."""
    looks = [
        sight(at, snapshot_of(*time_wait(n, age=30), sockstat={"TCP.tw": n}))
        for at, n in ((0, 10), (1, 500))
    ]
    (table,) = [e.row for e in frames(looks)[-1].budgets if e.row.kind == "time-wait"]
    assert (table.used, table.growth, table.full_in) == (500, 490.0, None)


def test_ports_say_when_they_are_full() -> None:
    frame = frames([sight(0, snapshot_of(*time_wait(26_000)))])[0]
    (ports,) = [e.row for e in frame.budgets if e.row.kind == "ports"]
    assert ports.name == "ports to 10.0.0.5:5432"
    assert ports.used == 26_000
    assert ports.share > 0.9


def test_time_waits_settle_below_what_the_kernel_allows() -> None:
    sockets = [s for age in range(60) for s in time_wait(50, port=32768 + 50 * age, age=age + 0.5)]
    frame = frames([sight(0, snapshot_of(*sockets))])[0]
    assert frame.settles_at == 3000
    small = {**SYSCTLS, "net.ipv4.tcp_max_tw_buckets": "1000"}
    assert frames([sight(0, snapshot_of(*sockets, sysctls=small))])[0].settles_at == 1000


def test_without_timers_nothing_is_said_of_rates() -> None:
    gap = Gap("timers", "psutil does not show socket timers", "use --source netlink")
    frame = frames([sight(0, snapshot_of(*closed_first(9, port=443), gaps=(gap,)))])[0]
    assert (frame.time_wait, frame.settles_at, frame.closing.now) == (9, None, None)
    assert {entry.row.now for entry in frame.closers} == {None}


# Who closes.


def closers_of(frame: Frame) -> dict[str, Any]:
    """Return the closers by kind and name."""
    return {f"{entry.row.kind} {entry.row.name}": entry.row for entry in frame.closers}


def test_servers_and_clients_are_told_apart_as_the_ends_are() -> None:
    snapshot = snapshot_of(listening(443), *closed_first(20, port=443)[:20], *time_wait(30))
    ends = ended(SERVED, SERVED, CALLED)
    found = closers_of(frames([sight(0, snapshot, ends=ends, following=TRACED)])[0])
    server, client = found["server 0.0.0.0:443"], found["client 10.0.0.5:5432"]
    assert (server.time_wait, client.time_wait) == (20, 30)
    assert server.firsts == (2.0, 0.0, 0.0, 0.0)
    assert client.firsts == (0.0, 1.0, 0.0, 1.0)


def test_a_peer_that_closes_has_a_row_though_it_leaves_no_time_wait_here() -> None:
    found = closers_of(frames([sight(0, snapshot_of(), ends=ended(CALLED), following=TRACED)])[0])
    assert found["client 10.0.0.5:5432"].firsts.peer == 1.0
    assert found["client 10.0.0.5:5432"].time_wait == 0


def test_nothing_is_said_of_who_closes_first_where_it_is_not_followed() -> None:
    frame = frames([sight(0, snapshot_of(listening(443), *closed_first(20, port=443)))])[0]
    assert [entry.row.firsts for entry in frame.closers] == [None]
    assert not frame.processes


def test_the_processes_that_close_are_named_with_what_they_do() -> None:
    snapshot = snapshot_of(listening(443))
    killed = SERVED._replace(how=How.RST)
    ends = ended(SERVED, SERVED, killed, CALLED, seconds=2.0)
    frame = frames([sight(0, snapshot, ends=ends, following=TRACED)])[0]
    rows = {entry.row.name: entry.row for entry in frame.processes}
    assert (rows["nginx"].end, rows["nginx"].pids) == ("on :443", (915,))
    assert (rows["nginx"].first, rows["nginx"].after, rows["nginx"].resets) == (1.0, 0.0, 0.5)
    assert (rows["python"].end, rows["python"].after) == ("to 10.0.0.5:5432", 0.5)


def test_rates_of_ends_are_of_the_time_they_were_followed() -> None:
    looks = [
        sight(0, snapshot_of(), ends=ended(CALLED, seconds=0.5), following=TRACED),
        sight(10, snapshot_of(), ends=ended(CALLED, CALLED, CALLED, seconds=0.5), following=TRACED),
        sight(70.5, snapshot_of(), ends=ended(CALLED, seconds=0.5), following=TRACED),
    ]
    first, second, third = (f.closers[0].row.firsts for f in frames(looks))
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.peer, second.peer, third.peer) == (2.0, 4.0, 2.0)  # the minute forgets


def test_that_nothing_ended_in_a_moment_is_no_rate_of_zero() -> None:
    snapshot = snapshot_of(listening(443), *closed_first(5))
    looks = [
        sight(0, snapshot, ends=Ended(0.02), following=TRACED),
        sight(1, snapshot, ends=Ended(1.0), following=TRACED),
    ]
    first, second = (f.closers[0].row.firsts for f in frames(looks))
    assert first is None
    assert second is not None
    assert second.here == 0


def test_the_groups_of_ends_are_bounded() -> None:
    counter = EndsCounter()
    for number in range(5000):
        counter.add(CALLED._replace(remote=f"10.{number >> 8}.{number & 255}.1"))
    ends = counter.take(1.0)
    assert len(ends.counts) <= 500
    assert len(ends.closers) <= 500
    assert counter.take(1.0) == Ended(1.0, {}, {}, {})


# Rows.


def test_rows_keep_their_place_and_stay_when_they_are_gone() -> None:
    one, other = closed_first(5, port=443), closed_first(9, port=8080)
    hosts = [
        snapshot_of(listening(443), listening(8080), *one, *other),
        snapshot_of(listening(443), listening(8080), *closed_first(99, port=443)),
        snapshot_of(listening(443), listening(8080), *one, *other),
    ]
    found = frames(sight(at, host) for at, host in enumerate(hosts))
    orders = [[entry.row.port for entry in frame.closers] for frame in found]
    assert orders == [[8080, 443]] * 3
    assert [entry.gone_at for entry in found[1].closers] == [1, None]
    assert [entry.gone_at for entry in found[2].closers] == [None, None]


def test_gone_rows_are_bounded_and_the_latest_are_kept() -> None:
    looks = [
        sight(at, snapshot_of(*time_wait(3, dport=1000 + at), sysctls=SYSCTLS)) for at in range(200)
    ]
    last = frames(looks)[-1]
    assert len(last.closers) <= 60
    assert last.closers[-1].row.port == 1199
    assert last.closers[-2].row.port == 1198


def test_a_reset_forgets_rows_and_growth() -> None:
    memory = ScreenMemory()
    memory, _ = fold(memory, sight(0, snapshot_of(*close_wait(9), owners=held(9, 9, 1024))))
    memory, _ = fold(memory, sight(1, snapshot_of()))
    memory, frame = fold(memory.without_past(), sight(2, snapshot_of()))
    assert not frame.leaks
    assert frame.close_wait_grown == 0


def test_findings_are_in_the_order_of_harm_and_stay_when_gone() -> None:
    leaking = snapshot_of(
        listening(8080), *aged(close_wait(70), 120), owners=held(70, 1000, 1024),
        crowded=(Owner(812, "java", "app", 1000, 1024),),
    )  # fmt: skip
    found = frames([sight(0, leaking), sight(5, snapshot_of())])
    severities = [entry.row.severity for entry in found[0].findings]
    assert severities == sorted(severities, reverse=True)
    assert len(found[1].findings) == len(found[0].findings) > 1
    assert {entry.gone_at for entry in found[1].findings} == {5}


def test_a_finding_is_the_same_while_its_words_change() -> None:
    looks = [
        sight(at, snapshot_of(*aged(close_wait(n), 120), owners=held(n, n, 1024)))
        for at, n in ((0, 60), (1, 70), (2, 80))
    ]
    last = frames(looks)[-1]
    assert len([e for e in last.findings if e.row.rule == "close-wait-leak"]) == 1
    assert all(entry.gone_at is None for entry in last.findings)


def test_a_row_has_the_findings_that_concern_it() -> None:
    sockets = [listening(8080), *aged(close_wait(70), 120), *time_wait(26_000)]
    frame = frames([sight(0, snapshot_of(*sockets, owners=held(70, 90, 1024)))])[0]
    rules = {
        part: {
            finding.rule
            for entry in frame.parts[part]
            for finding in related(frame, part, entry.row)
        }
        for part in PARTS
    }
    assert rules["leaks"] == {"close-wait-leak"}
    assert {"ports-running-out"} <= rules["budgets"]
    assert {"ports-running-out"} <= rules["closers"]
    assert rules["findings"] == {finding.rule for finding in frame.report.findings}


# What is asked for.


def test_a_port_leaves_only_what_concerns_it() -> None:
    sockets = [listening(443), *closed_first(20, port=443), *time_wait(3000), *close_wait(3)]
    wanted = Wanted(ports=frozenset({5432}))
    frame = frames([sight(0, snapshot_of(*sockets))], wanted)[0]
    assert [entry.row.name for entry in frame.closers] == ["10.0.0.5:5432"]
    assert [entry.row.name for entry in frame.budgets] == ["ports to 10.0.0.5:5432"]
    assert not frame.leaks


def test_a_process_leaves_only_what_concerns_it() -> None:
    sockets = [listening(443, inode=7), *closed_first(20, port=443), *close_wait(3), *time_wait(9)]
    owners = held(3, 9, 1024) | {7: (Owner(915, "nginx", "www"),)}
    snapshot = snapshot_of(*sockets, owners=owners)
    ends = ended(SERVED, CALLED)
    for words, closers, leaks, processes in (
        ("nginx", ["0.0.0.0:443"], 0, ["nginx"]),
        ("915", ["0.0.0.0:443"], 0, ["nginx"]),
        ("java", [], 1, []),
        ("python", ["10.0.0.5:5432"], 0, ["python"]),
    ):
        wanted = Wanted(processes=frozenset({words}))
        frame = frames([sight(0, snapshot, ends=ends, following=TRACED)], wanted)[0]
        assert [entry.row.name for entry in frame.closers] == closers
        assert len(frame.leaks) == leaks
        assert [entry.row.name for entry in frame.processes] == processes


LOOKS = st.lists(
    st.tuples(st.floats(0.05, 90), st.integers(0, 30), st.integers(0, 30), st.integers(0, 9)),
    min_size=1,
    max_size=12,
)


@given(LOOKS)
def test_no_host_breaks_the_fold(looks: list[tuple[float, int, int, int]]) -> None:
    at, sights = 0.0, []
    for step, waiting, served, leaked in looks:
        at += step
        sockets = [listening(443), *closed_first(served, port=443), *time_wait(waiting)]
        snapshot = snapshot_of(
            *sockets, *close_wait(leaked), owners=held(leaked, 9, 1024),
            counters={"TcpExt.TW": waiting, "Tcp.OutRsts": leaked},
        )  # fmt: skip
        sights.append(sight(at, snapshot, ends=ended(*[SERVED] * leaked), following=TRACED))
    for frame, one in zip(frames(sights), sights, strict=True):
        for part in PARTS:
            keys = [entry.key for entry in frame.parts[part]]
            assert len(keys) == len(set(keys))
        there = [e.row for e in frame.closers if e.gone_at is None]
        assert sum(row.time_wait for row in there) == frame.time_wait
        assert all(rate.now is None or rate.now >= 0 for rate in frame.rates.values())
        assert replace(frame).at == one.at


def test_what_the_rules_find_in_each_scenario_is_shown(played: dict[str, Played]) -> None:
    for name, play in played.items():
        view = View(play.snapshot)
        (frame,) = frames([Sight(0, play.report, view)])
        assert [e.row for e in frame.findings] == list(play.report.findings), name
        # Without an owner: one of a moment is about to be closed.
        waiting = [
            one
            for one in view.close_waits
            if one.kind is CloseWaitKind.NEVER_ACCEPTED or one.age_min is None or one.age_min >= 1
        ]
        assert sum(entry.row.sockets for entry in frame.leaks) == len(waiting), name
        assert len(view.close_waits) == play.snapshot.census.states.get(State.CLOSE_WAIT, 0)
        total = play.snapshot.census.states.get(State.TIME_WAIT, 0)
        told = sum(entry.row.time_wait for entry in frame.closers)
        unknown = play.report.facts[facts.BY_UNKNOWN]
        assert isinstance(unknown, int)
        assert 0 <= total - told <= unknown + play.snapshot.census.left_out, name
