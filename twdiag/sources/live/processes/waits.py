"""Read what the threads of a few processes wait for, within a time budget.

Only /proc is read, and nothing is stopped or changed.  A system call needs the right to trace
(PTRACE_MODE_ATTACH: root, CAP_SYS_PTRACE, or the same user where Yama allows it); where it is
missing, the kernel function a thread sleeps in says a part of it, and a gap says the rest.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from twdiag.model.snapshot import Gap
from twdiag.model.waits import FdKind, ProcessWaits
from twdiag.sources.live import rights
from twdiag.sources.live.proc import read_bytes
from twdiag.sources.live.processes.glances import (
    MOST_THREADS,
    Glance,
    glance_at,
    is_still,
    look_at_all,
)
from twdiag.sources.live.processes.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

PAUSE: Final = 0.1
"""Seconds between the two looks: what has not moved meanwhile is "still" there."""


def read_waits(
    pids: Iterable[int],
    inodes_of_interest: Collection[int],
    seconds: float = 0.5,
    twice: bool = True,
) -> tuple[dict[int, ProcessWaits], list[Gap]]:
    """Return what these processes wait for, and what could not be seen.

    `inodes_of_interest` are the sockets a finding is about, listeners included: of epoll sets with
    thousands of watches only theirs are kept.  Two looks 0.1 s apart tell which threads have not
    moved; where `seconds` do not suffice for the second (or `twice` is false) `still` is None.
    Processes that are gone are left out.  Costs about 50 us a thread and 30 us a process besides
    the pause: 500 processes of 4 threads take 0.3 s.
    """
    begun = time.monotonic()
    until = begun + seconds
    wanted = tuple(dict.fromkeys(pids))
    first, late = look_at_all(wanted, until)
    looked = time.monotonic()
    found = {pid: _told(pid, glances, inodes_of_interest, until) for pid, glances in first.items()}
    hurried = False
    if twice and found:
        # The second look takes as long as the first one.
        hurried = time.monotonic() + (looked - begun) > until or looked + PAUSE > until
        if not hurried:
            time.sleep(max(0.0, looked + PAUSE - time.monotonic()))
            found = {pid: _compared(waits, first[pid]) for pid, waits in found.items()}
    return found, _gaps(wanted, found, late, hurried)


def wanted_inodes(found: Mapping[int, ProcessWaits]) -> set[int]:
    """Return the inodes of the sockets that threads wait for: whose rows the analysis wants."""
    return {
        target.inode
        for waits in found.values()
        for thread in waits.threads
        for target in thread.targets
        if target.kind is FdKind.SOCKET and target.inode is not None
    }


def _told(
    pid: int, glances: Mapping[int, Glance], inodes: Collection[int], until: float
) -> ProcessWaits:
    """Return one process's threads with what they wait for, and its epoll sets."""
    leader = glances.get(pid) or next(iter(glances.values()))
    reader = Targets(pid, [glance.call for glance in glances.values() if glance.call])
    told = tuple(reader.thread(tid, glance) for tid, glance in glances.items())
    sets = reader.epoll_sets(inodes, {t.number for w in told for t in w.targets}, until)
    total = _thread_count(pid)
    tracers = [glance.status.tracer for glance in glances.values() if glance.status.tracer]
    return ProcessWaits(
        pid,
        leader.status.name,
        leader.status.uid,
        told,
        max(len(told), total),
        denied=reader.denied or all(glance.denied for glance in glances.values()),
        epolls=sets,
        tracer=tracers[0] if tracers else None,
        frozen=_frozen(pid),
        ring=reader.ring,
        whole=total <= MOST_THREADS,
    )


def _compared(waits: ProcessWaits, before: Mapping[int, Glance]) -> ProcessWaits:
    """Return a process's threads with `still`, from a second look."""
    told = []
    for thread in waits.threads:
        after = glance_at(waits.pid, thread.tid)
        told.append(thread._replace(still=is_still(before[thread.tid], after)))
    return replace(waits, threads=tuple(told))


def _thread_count(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def _frozen(pid: int) -> bool | None:
    """Say whether the process's cgroup is frozen, None where that was not seen; needs no right.

    In version 1 its threads are in state D, as if a disk did not answer.
    """
    seen = []
    with contextlib.suppress(OSError):
        for path, frozen in freezers(read_bytes(f"/proc/{pid}/cgroup")):
            with contextlib.suppress(OSError):
                seen.append(frozen in read_bytes(path).splitlines())
    return any(seen) if seen else None


def freezers(cgroups: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files that say whether cgroups of /proc/PID/cgroup are frozen, and the line for so.

    Version 2 has no name for its controllers, version 1 a folder for each.
    """
    for line in cgroups.splitlines():
        _, controllers, folder = (*line.split(b":", 2), b"", b"")[:3]
        if not controllers and folder:
            yield f"/sys/fs/cgroup{os.fsdecode(folder)}/cgroup.events", b"frozen 1"
        elif controllers == b"freezer":
            yield f"/sys/fs/cgroup/freezer{os.fsdecode(folder)}/freezer.state", b"FROZEN"


def _gaps(
    wanted: tuple[int, ...], found: Mapping[int, ProcessWaits], late: list[int], hurried: bool
) -> list[Gap]:
    gaps = []
    denied = [waits for waits in found.values() if waits.denied]
    if denied:
        gaps.append(_rights_gap(denied))
    gone = len(wanted) - len(found) - len(late)
    if gone:
        what = "1 process is" if gone == 1 else f"{gone} processes are"
        why = f"{what} gone or not visible from here (hidepid, another PID namespace)"
        gaps.append(Gap("waits", why, "run on the host rather than in a container", partial=True))
    if late:
        what = "1 process was" if len(late) == 1 else f"{len(late)} processes were"
        gaps.append(Gap("waits", f"{what} not looked at for want of time", _SLOWER, partial=True))
    if hurried:
        why = "there was no time to see whether the threads still wait 0.1 s later"
        gaps.append(Gap("waits", why, _SLOWER, partial=True))
    return gaps


_SLOWER: Final = "give it more time (--timeout)"


def _rights_gap(denied: list[ProcessWaits]) -> Gap:
    """Return the gap for processes that may not be read, with the right that is missing."""
    names = ", ".join(f"pid {waits.pid}" for waits in denied[:3])
    names += f" and {len(denied) - 3} more" if len(denied) > 3 else ""
    why = f"no permission to read the system calls of {names}"
    scope = _ptrace_scope()
    if scope == 3:
        how = "kernel.yama.ptrace_scope is 3: nobody may, until the host starts with a lower value"
    elif scope in (1, 2) and any(waits.uid == os.geteuid() for waits in denied):
        why += f" (kernel.yama.ptrace_scope is {scope})"
        how = rights.to_get("CAP_SYS_PTRACE")
    else:
        how = rights.to_get(*rights.READ_OTHERS)
    return Gap("waits", why, how, partial=True)


def _ptrace_scope() -> int | None:
    """Return kernel.yama.ptrace_scope, None where the kernel has no Yama."""
    try:
        return int(read_bytes("/proc/sys/kernel/yama/ptrace_scope"))
    except (OSError, ValueError):
        return None
