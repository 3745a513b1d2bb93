"""A process nears its limit of open descriptors.

What it means:
The process has nearly as many open file descriptors as its soft limit RLIMIT_NOFILE allows. The
evidence shows what they are: sockets by state, sockets that no table shows, files, pipes. Many in
CLOSE_WAIT are connections that the peer closed and the process did not; many in ESTABLISHED are
live connections, or idle ones that nobody uses any more.

Why it matters:
At the limit accept(), connect(), open() and pipe() all fail with EMFILE ("Too many open files").
Many servers then spin or stop accepting, and health checks fail with them.

What to do:
Look at what most of the descriptors are. A leak has to be found and fixed; restarting the process
buys time. A server that really serves so many connections needs a higher limit.

What not to do:
- Do not stop at raising the limit if something leaks: the process will reach the new one too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import CloseWaitKind, by_process
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, ProcessSubject, Severity
from twdiag.model.limits import ratio, seconds
from twdiag.named import NamedTuple
from twdiag.rules import close_wait, manual
from twdiag.rules.behind import held_by
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import breakdown_evidence, breakdown_text, process_subject
from twdiag.tcp import State
from twdiag.wording import count, duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Breakdown, Owner
    from twdiag.rules.behind import RowsBehind
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


class _Concerned(NamedTuple):
    """The CLOSE_WAITs that processes hold, and the processes with most descriptors in use."""

    waiting: Aged
    crowded: tuple[Owner, ...]


def select(view: View, limits: Limits) -> Iterator[Group[_Concerned]]:
    """Yield the crowded processes, and the CLOSE_WAITs where there are enough to matter."""
    accepted = tuple(w for w in view.close_waits if w.kind is not CloseWaitKind.NEVER_ACCEPTED)
    enough = len(accepted) >= limits[close_wait.NOTICE]
    crowded = tuple(o for o in view.crowded if _used(o) >= limits[WARNING])
    if accepted or crowded:
        inodes = (waiting.socket.inode for waiting in accepted if waiting.socket.inode)
        pids = tuple(owner.pid for owner in crowded)
        yield Group(_Concerned(accepted, crowded), tuple(inodes) if enough else (), pids)


def tell(view: View, limits: Limits, group: Group[_Concerned]) -> Iterator[Finding]:
    """Yield one finding for each process near its limit, the nearest first."""
    for _, finding in sorted(_near(view, limits, group), key=lambda near: -near[0]):
        yield finding


def _near(view: View, limits: Limits, group: Group[_Concerned]) -> Iterator[tuple[float, Finding]]:
    """Yield the findings, each with how much of its limit the process uses."""
    told = set()
    for holder in by_process(view.owners, group.about.waiting):
        owner = holder.owner
        # What a process leaks is more than half of what it has; else another sentence is better.
        if owner is not None and 2 * len(holder.sockets) >= (owner.fds or 0) > 0:
            severity = _severity(view, limits, owner, len(holder.sockets))
            if severity is not Severity.OK:
                told.add(owner.pid)
                yield _used(owner), _finding(view, owner, severity, holder)
    for owner in group.about.crowded:
        if owner.pid not in told:
            severity = _severity(view, limits, owner, 0)
            yield _used(owner), _finding(view, owner, severity, None)


def _used(owner: Owner) -> float:
    """Return how much of its limit a process uses, 0 where that was not seen."""
    return owner.fds / owner.fd_limit if owner.fds and owner.fd_limit else 0.0


def _severity(view: View, limits: Limits, owner: Owner, waiting: int) -> Severity:
    """Return how near the limit is: by what is used, and by when it is reached at this rate."""
    used, left = _used(owner), _seconds_left(view, owner)
    soon = left if waiting >= limits[close_wait.NOTICE] else None
    if used >= limits[CRITICAL] or (soon is not None and soon <= limits[CRITICAL_SECONDS]):
        return Severity.CRITICAL
    if used >= limits[WARNING] or (soon is not None and soon <= limits[WARNING_SECONDS]):
        return Severity.WARNING
    return Severity.OK


def _finding(view: View, owner: Owner, severity: Severity, holder: Holder | None) -> Finding:
    fds, limit, left = owner.fds or 0, owner.fd_limit or 0, _seconds_left(view, owner)
    breakdown = view.breakdown(owner.pid)
    when = f"; the limit is reached in {duration(left)} at this rate" if left is not None else ""
    if holder is not None:
        what = f", {len(holder.sockets):,} of them in CLOSE_WAIT"
    else:
        what = breakdown_text(breakdown)
    evidence = close_wait.evidence(holder) if holder is not None else {}
    return Finding(
        severity,
        Confidence.OBSERVED,
        f"{owner.name} (pid {owner.pid}) has {fds:,} of {count(limit, 'descriptor')} open "
        f"({share(_used(owner))}){what}{when}",
        process_subject(owner),
        {
            **evidence,
            facts.FDS: fds,
            facts.FD_LIMIT: limit,
            facts.FD_RATIO: round(_used(owner), 4),
            facts.LIMIT: limit,
            facts.SECONDS_LEFT: left,
            **breakdown_evidence(breakdown),
        },
        _advice(owner, breakdown, holder),
        Place.of(State.CLOSE_WAIT) if holder is not None else None,
    )


def _advice(owner: Owner, breakdown: Breakdown | None, holder: Holder | None) -> tuple[Advice, ...]:
    restart = Advice(
        "Restart the process before it reaches the limit"
        if (owner.fds or 0) < (owner.fd_limit or 0)
        else "Restart the process: it has no descriptor left",
        cost="its live connections end too",
        verify=f"its descriptors fall: ls /proc/{owner.pid}/fd | wc -l",
    )
    if holder is not None:
        return restart, Advice("Then fix what leaks", "twdiag explain close-wait-leak")
    see = Advice(
        "See what most of its descriptors are, and whether their number grows",
        f"the files and sockets: ls -l /proc/{owner.pid}/fd",
    )
    grow = Advice(
        "If it needs them all, raise its limit",
        "LimitNOFILE= of its systemd unit, ulimit -n of its shell, --ulimit nofile= of docker",
        "none below fs.nr_open; it takes effect at the next start",
    )
    return (restart, see) if breakdown and breakdown.nowhere else (see, grow, restart)


def _seconds_left(view: View, owner: Owner) -> float | None:
    """Return when the limit is reached at the growth since the earlier sample, None if unknown."""
    earlier = view.earlier
    if earlier is None or owner.fds is None or owner.fd_limit is None:
        return None
    before = view.process_before(owner.pid)
    elapsed = view.taken_at - earlier.taken_at
    if before is None or before.fds is None or owner.fds <= before.fds or elapsed <= 0:
        return None
    return (owner.fd_limit - owner.fds) * elapsed / (owner.fds - before.fds)


def rows(view: View, limits: Limits, group: Group[_Concerned]) -> RowsBehind:
    """Return the TCP sockets among the descriptors of the processes."""
    subjects = (finding.subject for finding in tell(view, limits, group))
    return held_by(s.pid for s in subjects if isinstance(s, ProcessSubject) and s.pid is not None)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets",),
    (close_wait.NOTICE, WARNING, CRITICAL, WARNING_SECONDS, CRITICAL_SECONDS),
    rows,
)
