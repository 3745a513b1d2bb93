"""A client's pool keeps connections that the server closed while they were idle.

What it means:
CLOSE_WAIT on the client's side with nothing unread but the FIN (Recv-Q 1), or a TLS close_notify
and the FIN (Recv-Q 25 or 32). The server closed idle connections first, and the pool will notice
at the next use. The number is bounded by the size of the pool.

Why it matters:
Usually it does not. If the pool does not check a connection before use, the next request on it
fails with a reset or "connection closed by peer" and has to be retried.

What to do:
Set the client's idle timeout below the server's, so that the client closes first, or let the pool
validate connections before use. If the number grows without bound it is a leak after all.

What not to do:
- Do not restart anything for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import Kind, by_program
from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.close_wait import aged, common_evidence, held_inodes, peers_text
from twdiag.rules.subjects import holder_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "close-wait-idle-pool"
MANUAL = __doc__ or ""


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of old, idle pooled connections."""
    return held_inodes(snapshot, aged(snapshot, limits, Kind.IDLE_POOL))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each process whose pool keeps dead connections."""
    for holder in by_program(snapshot, aged(snapshot, limits, Kind.IDLE_POOL)):
        number = len(holder.sockets)
        if number < limits["close-wait-notice"]:
            continue
        new = holder.new()
        settled = sum(
            1 for w in holder.sockets if (w.age_min or 0.0) >= limits["close-wait-warning-age"]
        )
        grows = bool(new) and settled >= limits["close-wait-warning"]
        full = (holder.fd_share or 0.0) >= limits["close-wait-fds-warning"]
        growth = f", {new:,} of them new since the first sample" if new else ""
        queues = [snapshot.sockets.recv_q[w.row] for w in holder.sockets]
        owners = (holder.owner,) if holder.owner else ()
        yield Finding(
            NAME,
            Severity.WARNING if grows or full else Severity.NOTICE,
            Confidence.INFERRED,
            f"{holder.name} keeps {count(number, 'idle connection')} that the server "
            f"closed, {between(holder.age_min, holder.age_max)}{growth}",
            holder_subject(holder),
            common_evidence(snapshot, holder) | {"recv_q": max(queues)},
            manual.why(MANUAL),
            (
                Advice(
                    "Set the pool's idle timeout below the server's",
                    f"the connections are {peers_text(snapshot, holder)}",
                    "connections are opened a little more often",
                    "the CLOSE_WAITs disappear after the next use of the pool",
                ),
                *software_advice(owners, "client", "pool"),
            ),
            manual.do_not(MANUAL),
            Place.of(State.CLOSE_WAIT),
            snapshot.netns,
        )


RULE = Rule(NAME, MANUAL, check, ("sockets", "queues", "inodes", "tcp-info|earlier"), inodes)
