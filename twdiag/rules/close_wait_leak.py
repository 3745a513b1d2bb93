"""A process holds connections that the peer closed long ago and never closes them itself.

What it means:
CLOSE_WAIT means that the peer's FIN has arrived and this host's application has not called
close(). These sockets are drained (Recv-Q 0: the application has read everything, the end of the
stream included, or will at its next read) and old. The kernel waits for the application: no sysctl
ends CLOSE_WAIT, and no timer but that of SO_KEEPALIVE, which leaves the descriptor open.

Why it matters:
Each one keeps a file descriptor and memory for as long as the process lives. A leak ends at the
descriptor limit with EMFILE ("Too many open files"), and then the process accepts and opens
nothing any more. At the other end the connection has long been forgotten.

What to do:
Find the code path that leaves the socket open after the end of the stream: an error path without
close(), a response body that is never read to its end and closed, a worker that waits for
something else. Restarting the process frees the sockets and buys time. What an old worker has kept
since a reload, or a helper has inherited, goes when that process ends: leave the service alone.

What not to do:
- Do not tune sysctls: none of them touches CLOSE_WAIT.
- Do not only raise the descriptor limit: that only postpones the failure.
- Do not kill the sockets from outside (ss -K): the application keeps the descriptor and gets an
  error it may not expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import CloseWaitKind, by_program
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.rules import close_wait, manual
from twdiag.rules.rule import Rule
from twdiag.rules.subjects import holder_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind
    from twdiag.rules.close_wait import Aged
    from twdiag.rules.rule import Group

NAME = "close-wait-leak"


def select(view: View, limits: Limits) -> Iterator[Group[Aged]]:
    """Yield the drained, old CLOSE_WAITs."""
    return close_wait.aged(view, limits, CloseWaitKind.LEAKED)


def tell(view: View, limits: Limits, group: Group[Aged]) -> Iterator[Finding]:
    """Yield one finding for each program that leaks."""
    for holder in by_program(view.owners, group.about):
        severity = _severity(holder, limits)
        if severity is not Severity.OK:
            yield _finding(holder, severity)


def _severity(holder: Holder, limits: Limits) -> Severity:
    share_of_fds = holder.fd_share or 0.0
    settled = close_wait.settled(holder, limits)
    if share_of_fds >= limits[close_wait.FDS_CRITICAL]:
        return Severity.CRITICAL
    if share_of_fds >= limits[close_wait.FDS_WARNING] or settled >= limits[close_wait.WARNING]:
        return Severity.WARNING
    enough = len(holder.sockets) >= limits[close_wait.NOTICE]
    return Severity.NOTICE if enough else Severity.OK


def _finding(holder: Holder, severity: Severity) -> Finding:
    number, fds = len(holder.sockets), holder.fd_share
    headroom = f", {share(fds)} of its descriptor limit" if fds and fds >= 0.1 else ""
    new = holder.new()
    growth = f", {new} of them new since the first sample" if new else ""
    owners = (holder.owner,) if holder.owner else ()
    return Finding(
        severity,
        Confidence.OBSERVED,
        f"{holder.name} holds {count(number, 'CLOSE_WAIT')} it never closed, "
        f"{between(holder.age_min, holder.age_max)}{headroom}{growth}",
        holder_subject(holder),
        close_wait.evidence(holder)
        | {facts.RECV_Q: 0, facts.WAITING_FD_RATIO: None if fds is None else round(fds, 4)},
        (
            Advice(
                "Find the code path that does not close",
                f"the connections are {close_wait.peers_text(holder)}; look at what the process "
                "does after the end of the stream on them",
                verify="no new CLOSE_WAIT: twdiag --interval 10",
            ),
            *software_advice(owners, "server", "close-wait"),
            *software_advice(owners, "client", "close-wait"),
            Advice(
                "To buy time, restart the process in a quiet moment",
                cost="its live connections end too",
                verify="no row of it: ss -tanp state close-wait",
            ),
        ),
        Place.of(State.CLOSE_WAIT),
    )


def elsewhere(advice: Advice) -> Advice:
    """Return the first advice as it is where the threads do something else: they forget nothing."""
    how = advice.how.partition("; ")[0]
    return advice._replace(do="See what its threads do instead", how=f"take a stack dump; {how}")


def rows(view: View, limits: Limits, group: Group[Aged]) -> RowsBehind:
    """Return the sockets of the programs that are told of."""
    return close_wait.rows_of(
        holder
        for holder in by_program(view.owners, group.about)
        if _severity(holder, limits) is not Severity.OK
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "queues", "inodes", "tcp-info|earlier"),
    (*close_wait.LIMITS, close_wait.FDS_WARNING, close_wait.FDS_CRITICAL),
    rows,
)
