"""A process holds connections that the peer closed and does not read what they still carry.

What it means:
CLOSE_WAIT with unread bytes: the peer sent data and its FIN, and the application has read neither
to the end. Recv-Q is the number of unread bytes plus one for the FIN; Recv-Q 1 means that only
the end of the stream is unread. On the server's side that is a reader that has stopped reading.

Why it matters:
The thread, worker or event loop in charge of these connections is stuck: blocked on something
else, dead-locked, or starved. Requests sit there unanswered although the peers have given up
already. When it closes such a socket with data unread, the peer gets a RST instead of a FIN.

What to do:
Look at what the process is doing now: a stack dump (jstack, py-spy, gdb, SIGQUIT for Go and
Java), a backend it waits for, a lock. The sockets are the symptom.

What not to do:
- Do not tune socket buffers or sysctls: the bytes have arrived, nobody reads them.
- Do not raise timeouts: the peers have already gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import POOL_RECV_Q, Kind, by_program
from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.close_wait import aged, common_evidence, held_inodes, peers_text
from twdiag.rules.subjects import holder_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "close-wait-unread"
MANUAL = __doc__ or ""


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of old CLOSE_WAITs with unread data."""
    return held_inodes(snapshot, aged(snapshot, limits, Kind.UNREAD))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each process whose reader is stuck."""
    for holder in by_program(snapshot, aged(snapshot, limits, Kind.UNREAD)):
        if len(holder.sockets) >= limits["close-wait-notice"]:
            yield _finding(snapshot, limits, holder)


def _finding(snapshot: Snapshot, limits: Limits, holder: Holder) -> Finding:
    queues = [snapshot.sockets.recv_q[w.row] for w in holder.sockets]
    unread = sum(queues) - len(queues)  # each FIN occupies one sequence number
    # A TLS close_notify before the FIN is no request that somebody waits for.
    requests = sum(queue - 1 for queue in queues if queue not in POOL_RECV_Q)
    # A client's idle pool can hold a last message of the server too (HTTP 408, "shutting down"), so
    # only a server that does not read is surely stuck.  And a server that has read the request and
    # works on it leaves the FIN unread: that is not stuck before it has lasted.
    server = any(w.server for w in holder.sockets)
    settled = sum(
        1 for w in holder.sockets if (w.age_min or 0.0) >= limits["close-wait-warning-age"]
    )
    # A client leaks unread responses where their number grows; a slow one holds the same number.
    many = settled >= limits["close-wait-warning"]
    stuck = (requests > 0 or many) if server else many and bool(holder.new())
    owners = (holder.owner,) if holder.owner else ()
    number = len(holder.sockets)
    return Finding(
        NAME,
        Severity.WARNING if stuck else Severity.NOTICE,
        Confidence.OBSERVED,
        f"{holder.name} does not read {count(number, 'connection')} that the peer closed: "
        f"{count(unread, 'byte')} unread, {between(holder.age_min, holder.age_max)}",
        holder_subject(holder),
        common_evidence(snapshot, holder)
        | {"recv_q": max(queues), "unread_bytes": unread, "server_side": server},
        manual.why(MANUAL),
        (
            Advice(
                "See where the process is stuck",
                f"take a stack dump; the connections are {peers_text(snapshot, holder)}",
                verify="Recv-Q falls to 0 and the sockets leave CLOSE_WAIT",
            ),
            *software_advice(owners, "server", "close-wait"),
        ),
        manual.do_not(MANUAL),
        Place.of(State.CLOSE_WAIT),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "queues", "inodes", "tcp-info|earlier"), inodes)
