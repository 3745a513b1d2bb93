"""How far limited things are used up, the fullest first; a healthy host shows the table alone."""

from __future__ import annotations

import pytest

from tests.made import SYSCTLS, established, listening, time_wait, view_of
from twdiag.analysis.budgets import Budget, budgets
from twdiag.analysis.wanted import EVERYTHING, Wanted
from twdiag.model.snapshot import Gap, Owner

FEW_PORTS = {**SYSCTLS, "net.ipv4.ip_local_port_range": "32768 33767"}


def kinds(*sockets: object, wanted: Wanted = EVERYTHING, **changes: object) -> list[str]:
    """Return the kinds of the budgets of a host, in their order."""
    view = view_of(*sockets, **changes)  # type: ignore[arg-type]
    return [budget.kind for budget in budgets(view, wanted).values()]


def test_a_healthy_host_shows_the_table_alone() -> None:
    assert kinds(listening(443), *established(20), *time_wait(50)) == ["time-wait"]


def test_what_is_used_up_comes_first() -> None:
    crowded = (Owner(812, "java", "app", 1000, 1024), Owner(5, "small", "app", None, None))
    full = listening(8080, recv_q=64, send_q=128)
    found = kinds(full, *time_wait(700), crowded=crowded, sysctls=FEW_PORTS)
    assert found == ["descriptors", "ports", "accept-queue", "time-wait"]


def test_orphans_are_told_when_they_are_many_of_those_allowed() -> None:
    assert "orphans" in kinds(sockstat={"TCP.tw": 0, "TCP.orphan": 40_000})
    assert "orphans" not in kinds(sockstat={"TCP.tw": 0, "TCP.orphan": 400})


def test_two_sources_of_one_destination_are_told_apart() -> None:
    other = [s._replace(local_address="10.0.0.2") for s in time_wait(500)]
    view = view_of(*time_wait(600), *other, sysctls=FEW_PORTS)
    names = [budget.name for budget in budgets(view, EVERYTHING).values()]
    assert names[:2] == [
        "ports to 10.0.0.5:5432 from 10.0.0.1",
        "ports to 10.0.0.5:5432 from 10.0.0.2",
    ]


def test_a_port_that_is_asked_for_is_shown_however_little_it_is_used() -> None:
    wanted = Wanted(ports=frozenset({5432}))
    assert kinds(*time_wait(3), wanted=wanted) == ["ports"]
    assert kinds(*time_wait(3), wanted=Wanted(ports=frozenset({443}))) == []


def test_a_limit_that_is_not_seen_is_no_budget() -> None:
    assert kinds(*time_wait(3), sysctls={}) == []
    gap = Gap("sockets", "nothing can be read", "run as root")
    assert kinds(gaps=(gap,)) == []


@pytest.mark.parametrize(
    ("used", "full_in", "urgent"),
    [(899, None, False), (900, None, True), (10, 299.0, True), (10, 3600.0, False)],
)
def test_what_is_nearly_used_up_is_urgent(used: int, full_in: float | None, urgent: bool) -> None:
    assert Budget("ports", "x", used, 1000, full_in=full_in).urgent is urgent
