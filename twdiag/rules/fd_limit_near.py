"""A process nears its descriptor limit, and sockets in CLOSE_WAIT take most of it.

What it means:
The process has nearly as many open file descriptors as its soft limit RLIMIT_NOFILE allows, and
more than half of them are connections that the peer closed and the process did not.

Why it matters:
At the limit accept(), connect(), open() and pipe() all fail with EMFILE ("Too many open files").
Many servers then spin or stop accepting, and health checks fail with them.

What to do:
Restart the process before it reaches the limit, then fix the leak that the other finding
describes.

What not to do:
- Do not stop at raising the limit: at the same rate it is reached again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import Kind, by_process
from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.close_wait import common_evidence, held_inodes
from twdiag.rules.subjects import holder_subject
from twdiag.tcp import State
from twdiag.wording import count, duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder, Waiting
    from twdiag.model import Owner, Snapshot
    from twdiag.model.limits import Limits

NAME = "fd-limit-near"
MANUAL = __doc__ or ""


def _accepted(snapshot: Snapshot) -> list[Waiting]:
    return [w for w in snapshot.close_waits if w.kind is not Kind.NEVER_ACCEPTED]


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of accepted CLOSE_WAITs, where there are enough to matter."""
    accepted = _accepted(snapshot)
    if len(accepted) >= limits["close-wait-notice"]:
        yield from held_inodes(snapshot, accepted)


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each process near its limit because of CLOSE_WAIT."""
    for holder in by_process(snapshot, _accepted(snapshot)):
        owner = holder.owner
        if owner is None or not owner.fds or not owner.fd_limit:
            continue
        severity = _severity(snapshot, limits, holder, owner.fds / owner.fd_limit)
        if severity is not Severity.OK and 2 * len(holder.sockets) >= owner.fds:
            yield _finding(snapshot, holder, owner.fds, owner.fd_limit, severity)


def _severity(snapshot: Snapshot, limits: Limits, holder: Holder, ratio: float) -> Severity:
    """Return how near the limit is: by what is used, and by when it is reached at this rate."""
    left = _seconds_left(snapshot, holder.owner)
    soon = left is not None and len(holder.sockets) >= limits["close-wait-notice"]
    if ratio >= limits["fds-critical"]:
        return Severity.CRITICAL
    if soon and (left or 0.0) <= limits["fds-critical-seconds"]:
        return Severity.CRITICAL
    if ratio >= limits["fds-warning"]:
        return Severity.WARNING
    return (
        Severity.WARNING if soon and (left or 0.0) <= limits["fds-warning-seconds"] else Severity.OK
    )


def _finding(
    snapshot: Snapshot, holder: Holder, fds: int, limit: int, severity: Severity
) -> Finding:
    number = len(holder.sockets)
    left = _seconds_left(snapshot, holder.owner)
    when = f"; the limit is reached in {duration(left)} at this rate" if left is not None else ""
    return Finding(
        NAME,
        severity,
        Confidence.OBSERVED,
        f"{holder.name} has {fds:,} of {count(limit, 'descriptor')} open "
        f"({share(fds / limit)}), {number:,} of them in CLOSE_WAIT{when}",
        holder_subject(holder),
        common_evidence(snapshot, holder) | {"limit": limit, "seconds_to_exhaustion": left},
        manual.why(MANUAL),
        (
            Advice(
                "Restart the process before it reaches the limit",
                cost="its live connections end too",
                verify="its descriptors fall: ls /proc/PID/fd | wc -l",
            ),
            Advice("Then fix what leaks", "twdiag explain close-wait-leak"),
        ),
        manual.do_not(MANUAL),
        Place.of(State.CLOSE_WAIT),
        snapshot.netns,
    )


def _seconds_left(snapshot: Snapshot, owner: Owner | None) -> float | None:
    """Return when the limit is reached at the growth since the earlier sample, None if unknown."""
    earlier = snapshot.earlier
    if owner is None or earlier is None or owner.fds is None or owner.fd_limit is None:
        return None
    before = {o.pid: o for group in earlier.owners.values() for o in group}.get(owner.pid)
    elapsed = snapshot.taken_at - earlier.taken_at
    if before is None or before.fds is None or owner.fds <= before.fds or elapsed <= 0:
        return None
    return (owner.fd_limit - owner.fds) * elapsed / (owner.fds - before.fds)


RULE = Rule(NAME, MANUAL, check, ("sockets", "inodes"), inodes)
