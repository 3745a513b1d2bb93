"""The lab: real sockets in a private network namespace that reproduce each finding."""

from __future__ import annotations

from typing import Final

from twdiag.lab.play import LabTimeout, Play, play, start
from twdiag.lab.scenario import Expected, Scenario
from twdiag.lab.scenarios import (
    bound_ports_running_out,
    bucket_overflow,
    busy_keep_alive,
    client_closes_first,
    close_wait_idle_pool,
    close_wait_leak,
    close_wait_never_accepted,
    close_wait_unread,
    close_wait_young,
    closing_schedule,
    dual_stack,
    ephemeral_listener,
    epoll_forgot,
    fd_limit,
    fd_limit_established,
    fin_unanswered,
    half_close,
    hostile_name,
    idle,
    idle_workers,
    inherited,
    ipv6,
    linger_zero,
    misleading_sysctl,
    not_inherited,
    one_address,
    orphan_fin_wait2,
    ports_reusable,
    ports_running_out,
    restart_blocked,
    reuse_port,
    server_closes_first,
    simultaneous_close,
    slow_upstream,
    sockets_nobody_sees,
    stopped,
    stuck_on_upstream,
    syn_unanswered,
    time_wait_rising,
    workers_in_lock,
)
from twdiag.lab.stage import LabError, Stage

__all__ = [
    "SCENARIOS",
    "Expected",
    "LabError",
    "LabTimeout",
    "Play",
    "Scenario",
    "Stage",
    "find",
    "play",
    "start",
]

SCENARIOS: Final[tuple[Scenario, ...]] = (
    idle.SCENARIO,
    busy_keep_alive.SCENARIO,
    simultaneous_close.SCENARIO,
    linger_zero.SCENARIO,
    server_closes_first.SCENARIO,
    ipv6.SCENARIO,
    dual_stack.SCENARIO,
    reuse_port.SCENARIO,
    one_address.SCENARIO,
    orphan_fin_wait2.SCENARIO,
    client_closes_first.SCENARIO,
    ports_running_out.SCENARIO,
    ports_reusable.SCENARIO,
    bound_ports_running_out.SCENARIO,
    time_wait_rising.SCENARIO,
    closing_schedule.SCENARIO,
    bucket_overflow.SCENARIO,
    close_wait_young.SCENARIO,
    close_wait_leak.SCENARIO,
    hostile_name.SCENARIO,
    fd_limit.SCENARIO,
    fd_limit_established.SCENARIO,
    sockets_nobody_sees.SCENARIO,
    close_wait_unread.SCENARIO,
    close_wait_never_accepted.SCENARIO,
    close_wait_idle_pool.SCENARIO,
    half_close.SCENARIO,
    fin_unanswered.SCENARIO,
    syn_unanswered.SCENARIO,
    restart_blocked.SCENARIO,
    ephemeral_listener.SCENARIO,
    misleading_sysctl.SCENARIO,
    stuck_on_upstream.SCENARIO,
    slow_upstream.SCENARIO,
    workers_in_lock.SCENARIO,
    idle_workers.SCENARIO,
    epoll_forgot.SCENARIO,
    inherited.SCENARIO,
    not_inherited.SCENARIO,
    stopped.SCENARIO,
)


def find(name: str) -> Scenario | None:
    """Return the scenario of a name, None where there is none."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
