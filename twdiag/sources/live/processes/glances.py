"""Look at the threads of processes, and tell from two looks which have not moved."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.sources.live.proc import read_bytes
from twdiag.sources.live.processes import threads as parse
from twdiag.sources.live.processes.system_calls import SystemCall, parse_syscall

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_THREADS: Final = 512  # of one process; a JVM with more has the rest in the same few places


class Glance(NamedTuple):
    """One look at a thread: its status, its system call (None: it runs or may not be seen).

    `ran` are the nanoseconds that a thread which runs, or wants to, has had of a CPU.
    """

    status: parse.ThreadStatus
    call: SystemCall | None
    denied: bool
    ran: int | None = None


def look_at_all(
    pids: Iterable[int], until: float
) -> tuple[dict[int, dict[int, Glance]], list[int]]:
    """Return a glance at each thread of each process, and the processes there was no time for."""
    glances: dict[int, dict[int, Glance]] = {}
    late = []
    for pid in pids:
        if time.monotonic() > until:
            late.append(pid)
            continue
        try:
            tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
        except OSError:
            continue  # gone, or hidden
        seen = {tid: g for tid in tids[:MOST_THREADS] if (g := glance_at(pid, tid)) is not None}
        if seen:
            glances[pid] = seen
    return glances, late


def glance_at(pid: int, tid: int) -> Glance | None:
    """Return what one thread does at this instant, None where it is gone."""
    folder = f"/proc/{pid}/task/{tid}"
    try:
        status = parse.parse_status(read_bytes(f"{folder}/status"))
    except OSError:
        return None
    if status is None:
        return None
    ran = _cpu_time(folder) if status.state == "R" else None
    try:
        return Glance(status, parse_syscall(read_bytes(f"{folder}/syscall")), False, ran)
    except PermissionError:
        return Glance(status, None, True, ran)
    except (OSError, ValueError):
        # Gone meanwhile, a kernel without CONFIG_HAVE_ARCH_TRACEHOOK, or a format of the future.
        return Glance(status, None, False, ran)


def _cpu_time(folder: str) -> int | None:
    """Return how long a thread was on a CPU, None where the kernel does not count it."""
    try:
        return parse.parse_cpu_time(read_bytes(f"{folder}/schedstat"))
    except OSError:
        return None


def is_still(before: Glance, after: Glance | None) -> bool | None:
    """Say whether a thread has not moved between two looks, None where that cannot be told.

    A thread that waits must not have been on a CPU meanwhile: a worker that has served a request
    and waits for the same upstream again looks the same but for its number of switches.
    """
    if after is None or before.status.state != after.status.state:
        return False
    if before.status.sleeps != after.status.sleeps:
        return False
    if before.status.state == "R":
        return _still_runs(before.ran, after.ran)
    return before.call == after.call and before.status.evictions == after.status.evictions


def _still_runs(before: int | None, after: int | None) -> bool | None:
    """Say whether a thread that never slept ran: one that got no core may be about to wait."""
    if before is None or after is None:
        return None
    return True if after > before else None
