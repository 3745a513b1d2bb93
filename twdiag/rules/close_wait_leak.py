"""A process holds connections that the peer closed long ago and never closes them itself.

What it means:
CLOSE_WAIT means that the peer's FIN has arrived and this host's application has not called
close(). These sockets are drained (Recv-Q 0: the application has read everything, the end of the
stream included, or will at its next read) and old. The kernel waits for the application; no timer
and no sysctl ends CLOSE_WAIT.

Why it matters:
Each one keeps a file descriptor and memory for as long as the process lives. A leak ends at the
descriptor limit with EMFILE ("Too many open files"), and then the process accepts and opens
nothing any more. At the other end the connection has long been forgotten.

What to do:
Find the code path that leaves the socket open after the end of the stream: an error path without
close(), a response body that is never read to its end and closed, a worker that waits for
something else. Restarting the process frees the sockets and buys time.

What not to do:
- Do not tune sysctls: none of them touches CLOSE_WAIT.
- Do not only raise the descriptor limit: it moves the day of the failure.
- Do not kill the sockets from outside (ss -K): the application keeps the descriptor and gets an
  error it may not expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import Kind, by_program
from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.close_wait import aged, common_evidence, held_inodes, peers_text
from twdiag.rules.subjects import holder_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "close-wait-leak"
MANUAL = __doc__ or ""


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of drained, old CLOSE_WAITs."""
    return held_inodes(snapshot, aged(snapshot, limits, Kind.LEAKED))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each program that leaks."""
    old = aged(snapshot, limits, Kind.LEAKED)
    for holder in by_program(snapshot, old):
        severity = _severity(holder, limits)
        if severity is not Severity.OK:
            yield _finding(snapshot, holder, severity)


def _severity(holder: Holder, limits: Limits) -> Severity:
    share_of_fds = holder.fd_share or 0.0
    settled = sum(
        1 for w in holder.sockets if (w.age_min or 0.0) >= limits["close-wait-warning-age"]
    )
    if share_of_fds >= limits["close-wait-fds-critical"]:
        return Severity.CRITICAL
    if share_of_fds >= limits["close-wait-fds-warning"] or settled >= limits["close-wait-warning"]:
        return Severity.WARNING
    enough = len(holder.sockets) >= limits["close-wait-notice"]
    return Severity.NOTICE if enough else Severity.OK


def _finding(snapshot: Snapshot, holder: Holder, severity: Severity) -> Finding:
    number, fds = len(holder.sockets), holder.fd_share
    headroom = f", {share(fds)} of its descriptor limit" if fds and fds >= 0.1 else ""
    new = holder.new()
    growth = f", {new} of them new since the first sample" if new else ""
    owners = (holder.owner,) if holder.owner else ()
    return Finding(
        NAME,
        severity,
        Confidence.OBSERVED,
        f"{holder.name} holds {count(number, 'CLOSE_WAIT')} it never closed, "
        f"{between(holder.age_min, holder.age_max)}{headroom}{growth}",
        holder_subject(holder),
        common_evidence(snapshot, holder)
        | {"recv_q": 0, "close_wait_fd_ratio": None if fds is None else round(fds, 4)},
        manual.why(MANUAL),
        (
            Advice(
                "Find the code path that does not close",
                f"the connections are {peers_text(snapshot, holder)}; look at what the process "
                "does after the end of the stream on them",
                verify="run twdiag --interval 10 again: no new CLOSE_WAIT",
            ),
            *software_advice(owners, "server", "close-wait"),
            *software_advice(owners, "client", "close-wait"),
            Advice(
                "To buy time, restart the process in a quiet moment",
                cost="its live connections end too",
                verify="ss -tanp state close-wait is empty for it",
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(State.CLOSE_WAIT),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "queues", "inodes", "tcp-info|earlier"), inodes)
