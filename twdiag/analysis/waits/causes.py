"""Why the sockets of a case are not served.

A thread that was waiting at one instant is only waiting: nothing is called stuck that had moved at
the second look, and no thread in an event loop ever is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from twdiag.analysis.waits.case import is_idle
from twdiag.analysis.waits.ends import end_text
from twdiag.analysis.waits.words import accept_line, groups_of, phrase
from twdiag.model.findings import Confidence
from twdiag.model.waits import Act, Cause, Conclusion, EndRole
from twdiag.wording import count, visible

if TYPE_CHECKING:
    from twdiag.analysis.waits.case import Case
    from twdiag.model.waits import ProcessWaits


def conclude(case: Case) -> Conclusion | None:
    """Return why the sockets are not served, None where nothing is wrong or it cannot be told."""
    halted = _halted(case)
    if not case.concerned:
        return halted
    if halted:
        # A helper that has the listener too may be stopped, while the server itself is stuck.
        return (_stuck(_of_living(case)) if case.listens and not case.watched else None) or halted
    if case.watching_known and not case.unwatched:
        return _waiting_for_peers(case)  # a thread waits that will be told: nothing is stuck
    if case.listens and case.watched:
        return None
    return _stuck(case) or (_not_accepting(case) if case.listens else _unserved(case))


def _halted(case: Case) -> Conclusion | None:
    """Say where whole processes do not run at all."""
    for process in filter(_is_halted, case.processes):
        some = "" if len(case.processes) == 1 else f", one of {len(case.processes)} processes,"
        sure = Confidence.OBSERVED if not some else Confidence.INFERRED
        who = f"pid {process.pid}{some}"
        if not _runs_no_thread(process):
            text = f"{who} is frozen with its cgroup (docker pause, systemctl freeze)"
            return Conclusion(Cause.FROZEN, sure, text, pid=process.pid)
        if process.tracer:
            text = f"{who} is held by a debugger, pid {process.tracer}"
            return Conclusion(Cause.TRACED, sure, text, pid=process.pid)
        text = f"{who} is stopped by a signal and does nothing until SIGCONT"
        return Conclusion(Cause.STOPPED, sure, text, pid=process.pid)
    return None


def _is_halted(process: ProcessWaits) -> bool:
    return _runs_no_thread(process) or bool(process.frozen)


def _runs_no_thread(process: ProcessWaits) -> bool:
    acts = {thread.act for thread in process.threads}
    return bool(acts) and acts <= {Act.TRACED, Act.STOPPED}


def _of_living(case: Case) -> Case:
    """Return a case without the processes that do not run at all."""
    living = [process for process in case.processes if not _is_halted(process)]
    pids = {process.pid for process in living}
    threads = [seen for seen in case.threads if seen.pid in pids]
    return replace(case, processes=living, threads=threads)


def _waiting_for_peers(case: Case) -> Conclusion | None:
    """Say where threads wait in recv() for the very ends the finding is about."""
    readers = [
        seen
        for seen in case.doing(Act.READ)
        if seen.end is not None and seen.end.role is EndRole.PEER
    ]
    if 2 * len(readers) < len(case.concerned) or not readers:
        return None
    text = f"{count(len(readers), 'thread')} in recv() for the other end itself, without a timeout"
    return Conclusion(Cause.PEER, Confidence.OBSERVED, text, readers[0].end, readers[0].pid)


def _stuck(case: Case) -> Conclusion | None:
    """Say where the threads that should serve the sockets wait for something else."""
    for judge in (_upstream, _children, _disk, _mutex, _busy, _clients):
        conclusion = judge(case)
        if conclusion:
            return conclusion
    return None


def _upstream(case: Case) -> Conclusion | None:
    waiting, workers, free = case.upstream, case.workers, bool(case.loops) or _accepts(case)
    if not waiting:
        return None
    locked = sum(s.still and s.thread.act in (Act.FUTEX, Act.MUTEX) for s in workers)
    most = 2 * len(waiting) > len(workers)
    # Without a loop the others may wait for a lock that one of these holds.
    if not most and (free or len(waiting) + locked < len(workers)):
        return None
    # A single thread beside a loop can be a helper that is meant to wait; and one that blocks has
    # one connection in hand, so that further drained ones are not in anybody's.
    if free and len(waiting) < min(2, case.unwatched):
        return None
    if free and not case.listens and case.drained and case.unwatched > len(waiting):
        return None
    sure = len(waiting) == len(workers) and not free
    end = Counter(seen.end for seen in waiting).most_common(1)[0][0]
    where = end_text(end) if end else "an upstream"
    upstream = "" if end and end.address is None else "the upstream "
    text = f"{_share(len(waiting), len(workers))} for {upstream}{where}"
    idle = any(seen.still and seen.thread.act is Act.FUTEX for seen in workers)
    text += f", {locked} for a lock{' or for work' if idle else ''}" if locked else ""
    text = f"{text}: {_left(case)}"
    return Conclusion(Cause.UPSTREAM, _sure(sure), text, end, waiting[0].pid)


def _children(case: Case) -> Conclusion | None:
    """Say where the workers wait for programs that they have started."""
    waiting = [seen for seen in case.doing(Act.CHILD) if seen.child]
    if not waiting or case.loops or 2 * len(waiting) <= len(case.workers):
        return None
    what = "its child process" if len(waiting) == 1 else "a child process each"
    text = f"{_share(len(waiting), len(case.workers))} for {what}, pid {waiting[0].thread.child}"
    text += f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    sure = _sure(len(waiting) == len(case.workers))
    return Conclusion(Cause.CHILD, sure, f"{text}: {_left(case)}", pid=waiting[0].pid)


def _accepts(case: Case) -> bool:
    return any(seen.thread.act is Act.ACCEPT for seen in case.threads)


def _only_accepts(case: Case) -> bool:
    """Say whether no thread does more than wait for new connections: none is stuck."""
    others = (seen.thread for seen in case.threads if seen.thread.act is not Act.ACCEPT)
    return _accepts(case) and all(is_idle(thread) for thread in others)


def _disk(case: Case) -> Conclusion | None:
    disk = case.doing(Act.DISK)
    if not disk or case.loops or 2 * len(disk) <= len(case.workers):
        return None
    channel = next((seen.thread.channel for seen in disk if seen.thread.channel), "")
    text = f"{_share(len(disk), len(case.workers))} in disk sleep"
    text += f" ({visible(channel)})" if channel else ""
    text += ": a disk or NFS does not answer"
    return Conclusion(Cause.DISK, Confidence.INFERRED, text, pid=disk[0].pid)


def _mutex(case: Case) -> Conclusion | None:
    mutex = case.doing(Act.MUTEX)
    if not mutex or 2 * len(mutex) <= len(case.workers):
        return None
    text = f"{_share(len(mutex), len(case.workers))} for a lock: {_left(case)}"
    return Conclusion(Cause.LOCKED, Confidence.INFERRED, text, pid=mutex[0].pid)


def _busy(case: Case) -> Conclusion | None:
    running = case.doing(Act.RUN)
    if not running or case.loops or 2 * len(running) <= len(case.workers):
        return None
    number, workers = len(running), len(case.workers)
    who = f"{number} of {workers} workers run" if workers > 1 else "the only worker runs"
    text = f"{who} on a CPU all the time: {_left(case)}"
    return Conclusion(Cause.BUSY, Confidence.INFERRED, text, pid=running[0].pid)


def _clients(case: Case) -> Conclusion | None:
    """Say where each worker holds on to a client that sends nothing (keep-alive, a slow client)."""
    waiting = [
        seen
        for seen in case.doing(Act.READ, Act.WRITE, Act.POLL)
        if seen.end is not None and seen.end.role is EndRole.CLIENT
    ]
    if not waiting or case.loops or 2 * len(waiting) <= len(case.workers):
        return None
    text = f"{_share(len(waiting), len(case.workers))} for clients that send nothing"
    first, text = waiting[0], f"{text}: {_left(case)}"
    return Conclusion(Cause.BUSY, Confidence.INFERRED, text, first.end, first.pid)


def _locked(case: Case) -> Conclusion | None:
    """Say where all workers wait for one another, so far as the kernel can tell."""
    waiting = case.doing(Act.FUTEX, Act.MUTEX)
    if not waiting or case.loops or 2 * len(waiting) <= len(case.workers):
        return None
    places = {seen.thread.futex for seen in waiting}
    same = "the same lock" if len(places) == 1 and len(waiting) > 1 else "a lock"
    text = f"{_share(len(waiting), len(case.workers))} for {same} or for work: {_left(case)}"
    return Conclusion(Cause.LOCKED, Confidence.INFERRED, text, pid=waiting[0].pid)


def _not_accepting(case: Case) -> Conclusion | None:
    locked = _locked(case)
    if locked or not case.watching_known or not case.settled:
        return locked
    return Conclusion(Cause.NOT_ACCEPTING, Confidence.OBSERVED, accept_line(case))


def _unserved(case: Case) -> Conclusion | None:
    """Say what becomes of sockets that nobody watches while no thread is stuck."""
    locked = _locked(case)
    # A thread that blocks has one connection in hand: of more drained ones, nobody thinks.  And
    # beside one that accepts, idle threads are a pool that waits for work.
    if locked and not (case.drained and (_accepts(case) or case.unwatched > len(case.workers))):
        return locked
    if not case.watching_known or case.parked:
        return None
    if case.loops or case.drained or _only_accepts(case):
        return _forgotten(case)
    others = [group for group in groups_of(case.threads) if group.act is not Act.UNSEEN]
    if not others or not all(seen.still for seen in case.threads):
        return None
    first = others[0]
    who = "its only thread is" if len(case.threads) == 1 else f"{first.threads} of its threads are"
    text = f"{_left(case)}: {who} {phrase(first)}"
    return Conclusion(Cause.ELSEWHERE, Confidence.INFERRED, text, first.end)


def _forgotten(case: Case) -> Conclusion | None:
    total, left = len(case.concerned), case.unwatched
    served = any(
        case.names.serves(row.local_address, row.local_port) for row in case.concerned.values()
    )
    what = "forgotten by the program" if served else "idle in a pool of the program, or forgotten"
    futex = len(case.doing(Act.FUTEX))
    if futex and (not case.drained or futex >= left):
        what += f", or in the hands of the {count(futex, 'thread')} in futex()"
    waiting = [seen.end for seen in case.upstream if seen.end]
    if len(waiting) > 1:  # a single one beside a loop is a helper that is meant to wait, mostly
        end = Counter(waiting).most_common(1)[0][0]
        what += f", or queued behind the {len(waiting)} threads that wait for {end_text(end)}"
    if left == total:
        which = f"any of {total:,} sockets" if total > 1 else "the only socket"
    else:
        which = f"{left:,} of {total:,} sockets"
    text = f"nobody watches {which}: {what}"
    return Conclusion(Cause.FORGOTTEN, Confidence.INFERRED, text)


def _share(number: int, total: int) -> str:
    """Return "all 3 workers wait" or "3 of 4 workers wait"."""
    if total == 1:
        return "the only worker waits"
    return f"all {total} workers wait" if number == total else f"{number} of {total} workers wait"


def _left(case: Case) -> str:
    return "nobody calls accept()" if case.listens else "nobody reads these sockets"


def _sure(observed: bool) -> Confidence:
    return Confidence.OBSERVED if observed else Confidence.INFERRED
