"""Every scenario really puts its sockets where it says."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.explain.concepts import NOWHERE
from twdiag import lab

if TYPE_CHECKING:
    from .proctable import Row, Seen

STATES: dict[str, dict[str, int | range]] = {
    "idle": {"LISTEN": 2},
    "busy-keep-alive": {"LISTEN": 1, "ESTABLISHED": 100, "TIME_WAIT": 10},
    "simultaneous-close": {"LISTEN": 1, "TIME_WAIT": 20},
    "linger-zero": {"LISTEN": 1},
    "server-closes-first": {"LISTEN": 1, "TIME_WAIT": 23},
    "ipv6": {"LISTEN": 1, "TIME_WAIT": 23},
    "dual-stack": {"LISTEN": 1, "TIME_WAIT": 23},
    "reuse-port": {"LISTEN": 3, "TIME_WAIT": 24},
    "one-address": {"LISTEN": 2, "TIME_WAIT": 24},
    "orphan-fin-wait2": {"LISTEN": 1, "FIN_WAIT2": 25},
    "client-closes-first": {"LISTEN": 1, "TIME_WAIT": 600},
    "ports-running-out": {"LISTEN": 1, "TIME_WAIT": 90},
    "ports-reusable": {"LISTEN": 1, "TIME_WAIT": 90},
    "bound-ports-running-out": {"LISTEN": 4, "ESTABLISHED": 160},
    "time-wait-rising": {"LISTEN": 1, "TIME_WAIT": 3250},
    "closing-schedule": {"LISTEN": 1, "TIME_WAIT": 78},
    "bucket-overflow": {"LISTEN": 1, "TIME_WAIT": 20},
    "close-wait-young": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "close-wait-leak": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "many-leaks": {"LISTEN": 10, "CLOSE_WAIT": 52, "ESTABLISHED": 5},
    "hostile-name": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "fd-limit": {"LISTEN": 1, "CLOSE_WAIT": 52},
    "fd-limit-established": {"LISTEN": 1, "ESTABLISHED": 220},
    "sockets-nobody-sees": {"LISTEN": 1},
    "sockets-elsewhere": {},
    "idle-established-leak": {"LISTEN": 1, "ESTABLISHED": range(100, 131)},
    "idle-timeout": {"LISTEN": 1, "ESTABLISHED": range(40, 91)},
    "idle-database": {"LISTEN": 1, "ESTABLISHED": 500},
    "busy-pool": {"LISTEN": 1, "ESTABLISHED": 100},
    "websocket-server": {"LISTEN": 1, "ESTABLISHED": 1000},
    "close-wait-unread": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "close-wait-never-accepted": {"LISTEN": 1, "CLOSE_WAIT": 6},
    "keep-alive-race": {"LISTEN": 1, "ESTABLISHED": 8},
    "keep-alive-in-order": {"LISTEN": 1, "ESTABLISHED": 8},
    "accept-queue-full": {"LISTEN": 1, "ESTABLISHED": 6},
    "accept-queue-busy": {"LISTEN": 1, "ESTABLISHED": 40},
    "close-wait-idle-pool": {"CLOSE_WAIT": 5},
    "half-close": {"FIN_WAIT2": 5},
    "data-unanswered": {"ESTABLISHED": 6},
    "slow-reader": {"ESTABLISHED": 6},
    "fin-unanswered": {"FIN_WAIT1": 6},
    "syn-unanswered": {"SYN_SENT": 6},
    "snat-ports-running-out": {"ESTABLISHED": 10, "SYN_SENT": 1},
    "snat-ports-enough": {"ESTABLISHED": 10, "TIME_WAIT": 40},
    "conntrack-filling": {},
    "restart-blocked": {"TIME_WAIT": 5},
    "ephemeral-listener": {"LISTEN": 2},
    "misleading-sysctl": {"LISTEN": 1, "TIME_WAIT": 5},
    "stuck-on-upstream": {"LISTEN": 2, "ESTABLISHED": 6, "CLOSE_WAIT": 5},
    "slow-upstream": {"LISTEN": 2, "ESTABLISHED": 7},
    "workers-in-lock": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "idle-workers": {"LISTEN": 1, "ESTABLISHED": 5},
    "epoll-forgot": {"LISTEN": 1, "ESTABLISHED": 1, "CLOSE_WAIT": 39},
    "select-limit": {"LISTEN": 1, "CLOSE_WAIT": 8},
    "old-worker": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "inherited": {"LISTEN": 1, "CLOSE_WAIT": 5},
    "not-inherited": {"LISTEN": 1},
    "stopped": {"LISTEN": 1, "CLOSE_WAIT": 5},
}
NAMES = [scenario.name for scenario in lab.SCENARIOS]


def recv_queues(rows: list[Row]) -> list[int]:
    return sorted(row.recv_queue for row in rows)


def in_small_range(port: int) -> bool:
    return 40000 <= port <= 40099


def test_every_scenario_has_its_states_here() -> None:
    assert sorted(STATES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_states(name: str, seen: dict[str, Seen]) -> None:
    found, wanted = seen[name].states(), STATES[name]
    assert found.keys() == wanted.keys()
    for state, number in wanted.items():
        # A range where connections come and go while the observer looks.
        assert found[state] in (number if isinstance(number, range) else [number])


@pytest.mark.parametrize("scenario", lab.SCENARIOS, ids=NAMES)
def test_words(scenario: lab.Scenario) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", scenario.name)
    assert "\n" not in scenario.summary
    assert len(scenario.summary) <= 80
    assert len(scenario.teaches) > 150
    assert {expected.severity for expected in scenario.expects} <= {"notice", "warning", "critical"}


@pytest.mark.parametrize(("what", "pattern"), NOWHERE, ids=lambda value: value[:40])
def test_no_lesson_repeats_what_was_wrong(what: str, pattern: str) -> None:
    assert not [s.name for s in lab.SCENARIOS if re.search(pattern, s.teaches)], what


def test_find() -> None:
    assert lab.find("idle") is lab.SCENARIOS[0]
    assert lab.find("no-such-scenario") is None


@pytest.mark.parametrize(
    "name",
    [
        "server-closes-first",
        "ipv6",
        "dual-stack",
        "reuse-port",
        "time-wait-rising",
        "bucket-overflow",
        "restart-blocked",
        "closing-schedule",
    ],
)
def test_the_server_keeps_the_time_wait(name: str, seen: dict[str, Seen]) -> None:
    assert {row.port for row in seen[name].of("TIME_WAIT")} == {8080}


@pytest.mark.parametrize(
    "name",
    ["client-closes-first", "ports-running-out", "ports-reusable", "misleading-sysctl"],
)
def test_the_client_keeps_the_time_wait(name: str, seen: dict[str, Seen]) -> None:
    rows = seen[name].of("TIME_WAIT")
    assert {row.remote_port for row in rows} == {8080}
    assert len({row.port for row in rows}) == len(rows)


@pytest.mark.parametrize("name", ["ports-running-out", "ports-reusable"])
def test_the_ports_come_from_the_small_range(name: str, seen: dict[str, Seen]) -> None:
    assert all(in_small_range(row.port) for row in seen[name].of("TIME_WAIT"))


def test_reusable_ports_are_older_than_a_second(seen: dict[str, Seen]) -> None:
    rows = seen["ports-reusable"].of("TIME_WAIT")
    assert all(row.expires < 59.0 for row in rows)
    assert seen["ports-reusable"].counters["TWRecycled"] == 0


def test_bound_sockets_share_no_port(seen: dict[str, Seen]) -> None:
    rows = [r for r in seen["bound-ports-running-out"].of("ESTABLISHED") if in_small_range(r.port)]
    assert len({row.port for row in rows}) == 80
    assert Counter(row.remote_port for row in rows) == {8081: 20, 8082: 20, 8083: 20, 8084: 20}


def test_simultaneous_close_leaves_both_ends(seen: dict[str, Seen]) -> None:
    rows = seen["simultaneous-close"].of("TIME_WAIT")
    ends = {(row.port, row.remote_port) for row in rows}
    assert len(ends) == 20
    assert ends == {(remote, local) for local, remote in ends}


def test_one_address(seen: dict[str, Seen]) -> None:
    rows = seen["one-address"].of("TIME_WAIT")
    assert Counter((row.address, row.port) for row in rows) == {
        ("0200007F", 8080): 23,
        ("0100007F", 8080): 1,
    }


def test_address_families(seen: dict[str, Seen]) -> None:
    assert {row.table for name in ("ipv6", "dual-stack") for row in seen[name].rows} == {"tcp6"}
    mapped = "0000000000000000FFFF00000100007F"
    assert {row.address for row in seen["dual-stack"].of("TIME_WAIT")} == {mapped}


def test_overflow_is_counted(seen: dict[str, Seen]) -> None:
    assert seen["bucket-overflow"].counters["TCPTimeWaitOverflow"] == 10


@pytest.mark.parametrize(
    ("name", "queues"),
    [
        ("close-wait-leak", [0] * 5),
        ("fd-limit", [0] * 52),
        ("close-wait-unread", [101] * 5),
        ("close-wait-never-accepted", [1] * 6),
        ("close-wait-idle-pool", [1, 1, 1, 25, 32]),
    ],
)
def test_what_close_wait_left_unread(name: str, queues: list[int], seen: dict[str, Seen]) -> None:
    assert recv_queues(seen[name].of("CLOSE_WAIT")) == queues


def test_nobody_accepted(seen: dict[str, Seen]) -> None:
    frozen = seen["close-wait-never-accepted"]
    assert {row.inode for row in frozen.of("CLOSE_WAIT")} == {0}
    assert recv_queues(frozen.of("LISTEN")) == [6]


def test_the_descriptor_limit_is_near(seen: dict[str, Seen]) -> None:
    leaky = seen["fd-limit"].processes[0]
    assert 0.80 < len(leaky.descriptors) / 64 < 0.95


@pytest.mark.parametrize(
    ("name", "owner"), [("close-wait-leak", "leaky"), ("hostile-name", "\x1b[31m[red]|\nx")]
)
def test_the_leak_has_an_owner(name: str, owner: str, seen: dict[str, Seen]) -> None:
    process = next(process for process in seen[name].processes if process.name == owner)
    held = {f"socket:[{row.inode}]" for row in seen[name].of("CLOSE_WAIT")}
    assert len(held) == 5
    assert held <= set(process.descriptors)


def test_half_close_is_owned_and_an_orphan_is_not(seen: dict[str, Seen]) -> None:
    assert all(r.inode and r.timer == 0 for r in seen["half-close"].of("FIN_WAIT2"))
    orphans = seen["orphan-fin-wait2"].of("FIN_WAIT2")
    assert all(r.inode == 0 and r.timer == 3 and 40 < r.expires < 50 for r in orphans)


@pytest.mark.parametrize(
    ("name", "state", "least"),
    [
        ("fin-unanswered", "FIN_WAIT1", 3),
        ("data-unanswered", "ESTABLISHED", 3),
        ("syn-unanswered", "SYN_SENT", 2),
    ],
)
def test_retransmissions(name: str, state: str, least: int, seen: dict[str, Seen]) -> None:
    rows = seen[name].of(state)
    assert all(row.timer == 1 and row.retransmissions >= least for row in rows)


def test_one_listener_is_in_the_ephemeral_range_by_choice(seen: dict[str, Seen]) -> None:
    ports = {row.port for row in seen["ephemeral-listener"].of("LISTEN")}
    assert 40000 in ports
    assert all(32768 <= port <= 60999 for port in ports)


def test_the_schedule_is_what_the_timers_say(seen: dict[str, Seen]) -> None:
    schedule = seen["closing-schedule"]
    closes = schedule.notes["closes"]
    assert isinstance(closes, list)
    least = sorted(schedule.moment - monotonic for monotonic, _ in closes)
    most = sorted(schedule.later - monotonic for monotonic, _ in closes)
    shown = sorted(60 - row.expires for row in schedule.of("TIME_WAIT"))
    for low, age, high in zip(least, shown, most, strict=True):
        assert low - 0.1 < age < high + 0.1


def test_rising_closes_are_spread_over_time(seen: dict[str, Seen]) -> None:
    seconds = Counter(int(row.expires) for row in seen["time-wait-rising"].of("TIME_WAIT"))
    assert len(seconds) in (13, 14, 15)
    assert max(seconds.values()) < 600  # two seconds in one where the machine stalled
