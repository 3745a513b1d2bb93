"""Idle connections that pile up: told from one look where it is sure, else from two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.made import (
    HERE,
    LISTEN_8080,
    MOMENT,
    client,
    found,
    only_finding,
    report_of,
    snapshot_of,
    view_of,
)
from twdiag.model.findings import ProcessSubject, Severity
from twdiag.model.snapshot import Breakdown, Gap, Owner, Snapshot
from twdiag.model.sockets import Socket, TcpInfo
from twdiag.rules import DEFAULTS, RULES, runner
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

RULE = "idle-established-leak"
HOUR = 3600.0


def idle(ages: Iterable[float], *, server: bool = True) -> tuple[Socket, ...]:
    """Return connections of the server on 8080 or of a client, each idle for so many seconds."""
    sockets = []
    for i, age in enumerate(ages):
        info = TcpInfo(int(1000 * age), int(1000 * age) + 5, int(1000 * age))
        near, far = (8080, 40_000 + i) if server else (32_768 + i, 5432)
        remote = client(i) if server else "10.0.0.5"
        sockets.append(
            Socket(State.ESTABLISHED, HERE, near, remote, far, inode=1000 + i, info=info)
        )
    return tuple(sockets)


def steadily(n: int, first: float) -> list[float]:
    return [first * (i + 1) / n for i in range(n)]


def host(
    ages: Iterable[float],
    *,
    fds: int = 600,
    limit: int = 1024,
    life: float | None = 2.2 * HOUR,
    server: bool = True,
    **changes: Any,
) -> Snapshot:
    """Return a host with a process that has these connections, all asked for their age."""
    sockets = idle(ages, server=server)
    states = {State.ESTABLISHED: len(sockets)}
    breakdown = Breakdown(fds, states, 0, {"file": 9}, len(sockets), sockets, life)
    owner = Owner(812, "java", "app", fds, limit)
    return snapshot_of(LISTEN_8080, crowded=(owner,), breakdowns={812: breakdown}, **changes)


def earlier(fds: int, seconds: float) -> Snapshot:
    """Return the sample before, with so many descriptors of the process."""
    owner = Owner(812, "java", "app", fds, 1024)
    return snapshot_of(LISTEN_8080, taken_at=MOMENT - seconds, crowded=(owner,))


def test_a_leak_is_told_from_one_look() -> None:
    finding = only_finding(host(steadily(500, 2 * HOUR)), RULE)
    assert finding.severity is Severity.WARNING
    assert finding.subject == ProcessSubject(812, "java", "app")
    evidence = finding.evidence
    assert evidence["idle"] == pytest.approx(450, abs=25)  # the youngest tenth may be in use
    assert evidence["growth_per_second"] == pytest.approx(500 / 7200, rel=0.02)
    assert evidence["seconds_to_exhaustion"] == pytest.approx(424 / (500 / 7200), rel=0.02)
    assert evidence["peers"] == ["local port 8080"]
    assert "its descriptor limit is reached in 102 min at this rate" in finding.summary


def test_a_slow_leak_is_a_notice() -> None:
    assert found(host(steadily(500, 20 * HOUR), life=21 * HOUR)) == {RULE: Severity.NOTICE}


def test_a_client_that_leaks_is_told_to_use_one_pool() -> None:
    finding = only_finding(host(steadily(500, 2 * HOUR), server=False), RULE)
    assert finding.evidence["peers"] == ["10.0.0.5:5432"]
    assert any("one pool" in advice.how for advice in finding.advice)


@pytest.mark.parametrize(
    ("ages", "life"),
    [
        (steadily(500, 0.9 * HOUR), HOUR),  # too young to be sure
        (steadily(500, 2 * HOUR), 30 * HOUR),  # an idle timeout of two hours does the same
        (steadily(500, 2 * HOUR), 3 * HOUR),
        (steadily(500, 2 * HOUR), None),
        ([5 * HOUR] * 500, 5 * HOUR),  # an idle database: its clients' pools opened at the start
        ([0.2] * 500, 30 * HOUR),  # in use
        (steadily(200, 2 * HOUR), 2.2 * HOUR),  # less than a quarter of the limit
    ],
)
def test_what_is_not_sure_or_healthy_is_silent(ages: list[float], life: float | None) -> None:
    assert found(host(ages, life=life)) == {}


@pytest.mark.parametrize(
    ("before", "seconds", "ages", "tells"),
    [
        (300, 300, steadily(500, 500), True),  # a pile of one a second, and as much growth
        (595, 300, steadily(500, 500), False),  # a timeout: they come, and as many go
        (600, 300, steadily(500, 2 * HOUR), False),  # as many as before, whatever their ages
        (580, 300, [5 * HOUR] * 400 + [0.1] * 100, True),  # old ones, and more
        (597, 300, [5 * HOUR] * 500, False),  # three more descriptors are no growth
        (580, 300, [0.1] * 500, False),  # growth by connections in use
        (300, 20, steadily(500, 500), False),  # two looks 20 s apart tell nothing of hours
    ],
)
def test_two_samples_tell_growth(
    before: int, seconds: float, ages: list[float], tells: bool
) -> None:
    now = host(ages, life=30 * HOUR, earlier=earlier(before, seconds))
    assert (RULE in found(now)) is tells


def test_what_was_sampled_stands_for_all() -> None:
    sockets = idle(steadily(500, 2 * HOUR))
    owner = Owner(812, "java", "app", 40_000, 65_536)
    breakdown = Breakdown(10_000, {State.ESTABLISHED: 9_000}, 0, {}, 500, sockets, 2.2 * HOUR)
    finding = only_finding(
        snapshot_of(LISTEN_8080, crowded=(owner,), breakdowns={812: breakdown}), RULE
    )
    assert finding.evidence["idle"] == pytest.approx(0.9 * 36_000, rel=0.06)


def test_a_process_with_room_is_not_looked_at() -> None:
    owner = Owner(812, "java", "app", 200, 1024)
    view = view_of(LISTEN_8080, crowded=(owner,))
    assert runner.select(view, DEFAULTS, RULES).pids == set()


def test_without_ages_it_does_not_look_and_says_so() -> None:
    gap = Gap("tcp-info", "psutil does not show how long a socket waits", "use netlink")
    report = report_of(host(steadily(500, 2 * HOUR), gaps=(gap,)))
    assert RULE in [skip.rule for skip in report.skipped]
    assert report.findings == ()
