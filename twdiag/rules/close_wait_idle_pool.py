"""A client's pool keeps connections that the server closed while they were idle.

What it means:
CLOSE_WAIT on the client's side with nothing unread but the FIN (Recv-Q 1), or a TLS close_notify
and the FIN (Recv-Q 25 with TLS 1.3, 24 to 86 with TLS 1.2). The server closed idle connections
first, and the pool will notice at the next use. The number is bounded by the size of the pool.

Why it matters:
Usually it does no harm. If the pool does not check a connection before use, the next request on it
fails with a reset or "connection closed by peer" and has to be retried.

What to do:
Set the client's idle timeout below the server's, so that the client closes first, or let the pool
validate connections before use. If the number grows without bound it is a leak after all.

What not to do:
- Do not restart anything for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import CloseWaitKind
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.rules import close_wait, manual
from twdiag.rules.rule import Rule
from twdiag.rules.subjects import holder_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind
    from twdiag.rules.close_wait import Aged
    from twdiag.rules.rule import Group

NAME = "close-wait-idle-pool"


def select(view: View, limits: Limits) -> Iterator[Group[Aged]]:
    """Yield the old, idle pooled connections."""
    return close_wait.aged(view, limits, CloseWaitKind.IDLE_POOL)


def tell(view: View, limits: Limits, group: Group[Aged]) -> Iterator[Finding]:
    """Yield one finding for each process whose pool keeps dead connections."""
    for holder in close_wait.noticed(view, limits, group):
        left = close_wait.seconds_to_limit(holder, view)
        yield _finding(holder, limits, left)


def _finding(holder: Holder, limits: Limits, left: float | None) -> Finding:
    new = holder.new()
    grows = bool(new) and close_wait.settled(holder, limits) >= limits[close_wait.WARNING]
    full = (holder.fd_share or 0.0) >= limits[close_wait.FDS_WARNING]
    growth = f", {new:,} of them new since the first sample" if new else ""
    soon = left is not None and left <= limits[close_wait.LEAK_SECONDS]
    if left is not None and not new:
        growth = f"; if none is closed, the descriptor limit is reached in {duration(left)}"
    owners = (holder.owner,) if holder.owner else ()
    return Finding(
        Severity.WARNING if grows or full or soon else Severity.NOTICE,
        Confidence.INFERRED,
        f"{holder.name} keeps {count(len(holder.sockets), 'idle connection')} that the server "
        f"closed, {between(holder.age_min, holder.age_max)}{growth}",
        holder_subject(holder),
        close_wait.evidence(holder)
        | {
            facts.RECV_Q: max(w.socket.recv_q for w in holder.sockets),
            facts.SECONDS_LEFT: None if left is None else round(left, 1),
        },
        (
            Advice(
                "Set the pool's idle timeout below the server's",
                f"the connections are {close_wait.peers_text(holder)}",
                "connections are opened a little more often",
                f"the rows go after the next use of the pool: twdiag sockets --rule {NAME}",
            ),
            *software_advice(owners, "client", "pool"),
        ),
        Place.of(State.CLOSE_WAIT),
    )


def rows(view: View, limits: Limits, group: Group[Aged]) -> RowsBehind:
    """Return the sockets of the programs that are told of."""
    return close_wait.rows_of(close_wait.noticed(view, limits, group))


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "queues", "inodes", "tcp-info|earlier"),
    (*close_wait.LIMITS, close_wait.FDS_WARNING, close_wait.LEAK_SECONDS),
    rows,
)
