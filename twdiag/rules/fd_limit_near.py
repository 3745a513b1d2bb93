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
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.model.limits import ratio, seconds
from twdiag.rules import close_wait, manual
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import holder_subject
from twdiag.tcp import State
from twdiag.wording import count, duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Owner
    from twdiag.rules.close_wait import Aged

NAME = "fd-limit-near"
WARNING = ratio("fds-warning", 0.8, "open descriptors of a process as a share of its limit")
CRITICAL = ratio("fds-critical", 0.95, "open descriptors of a process as a share of its limit")
WARNING_SECONDS = seconds(
    "fds-warning-seconds", 900, "time until the descriptor limit is reached, two samples"
)
CRITICAL_SECONDS = seconds(
    "fds-critical-seconds", 300, "time until the descriptor limit is reached, two samples"
)


def select(view: View, limits: Limits) -> Iterator[Group[Aged]]:
    """Yield the accepted CLOSE_WAITs; their owners are wanted where there are enough to matter."""
    accepted = tuple(w for w in view.close_waits if w.kind is not Kind.NEVER_ACCEPTED)
    enough = len(accepted) >= limits[close_wait.NOTICE]
    if accepted:
        inodes = (waiting.socket.inode for waiting in accepted if waiting.socket.inode)
        yield Group(accepted, tuple(inodes) if enough else ())


def tell(view: View, limits: Limits, group: Group[Aged]) -> Iterator[Finding]:
    """Yield one finding for each process near its limit because of CLOSE_WAIT."""
    for holder in by_process(view.owners, group.about):
        owner = holder.owner
        if owner is None or not owner.fds or not owner.fd_limit:
            continue
        severity = _severity(view, limits, holder, owner.fds / owner.fd_limit)
        if severity is not Severity.OK and 2 * len(holder.sockets) >= owner.fds:
            yield _finding(view, holder, owner.fds, owner.fd_limit, severity)


def _severity(view: View, limits: Limits, holder: Holder, used: float) -> Severity:
    """Return how near the limit is: by what is used, and by when it is reached at this rate."""
    left = _seconds_left(view, holder.owner)
    soon = left if len(holder.sockets) >= limits[close_wait.NOTICE] else None
    if used >= limits[CRITICAL] or (soon is not None and soon <= limits[CRITICAL_SECONDS]):
        return Severity.CRITICAL
    if used >= limits[WARNING] or (soon is not None and soon <= limits[WARNING_SECONDS]):
        return Severity.WARNING
    return Severity.OK


def _finding(view: View, holder: Holder, fds: int, limit: int, severity: Severity) -> Finding:
    left = _seconds_left(view, holder.owner)
    when = f"; the limit is reached in {duration(left)} at this rate" if left is not None else ""
    return Finding(
        severity,
        Confidence.OBSERVED,
        f"{holder.name} has {fds:,} of {count(limit, 'descriptor')} open "
        f"({share(fds / limit)}), {len(holder.sockets):,} of them in CLOSE_WAIT{when}",
        holder_subject(holder),
        close_wait.evidence(holder) | {facts.LIMIT: limit, facts.SECONDS_LEFT: left},
        (
            Advice(
                "Restart the process before it reaches the limit",
                cost="its live connections end too",
                verify="its descriptors fall: ls /proc/PID/fd | wc -l",
            ),
            Advice("Then fix what leaks", "twdiag explain close-wait-leak"),
        ),
        Place.of(State.CLOSE_WAIT),
    )


def _seconds_left(view: View, owner: Owner | None) -> float | None:
    """Return when the limit is reached at the growth since the earlier sample, None if unknown."""
    earlier = view.earlier
    if owner is None or earlier is None or owner.fds is None or owner.fd_limit is None:
        return None
    before = {o.pid: o for group in earlier.owners.values() for o in group}.get(owner.pid)
    elapsed = view.taken_at - earlier.taken_at
    if before is None or before.fds is None or owner.fds <= before.fds or elapsed <= 0:
        return None
    return (owner.fd_limit - owner.fds) * elapsed / (owner.fds - before.fds)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "inodes"),
    (close_wait.NOTICE, WARNING, CRITICAL, WARNING_SECONDS, CRITICAL_SECONDS),
)
