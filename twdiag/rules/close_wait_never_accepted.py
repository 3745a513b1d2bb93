"""Connections wait in a listener's accept queue although their clients have given up.

What it means:
A CLOSE_WAIT without an inode was never accept()ed: the kernel completed the handshake and put it
into the listener's accept queue, the client sent its FIN, and the server has not called accept()
since. The listener's Recv-Q counts them.

Why it matters:
The server is not accepting: it hangs, it is out of descriptors, or it is too slow. The queue
holds dead connections in front of live ones, and when it is full the kernel drops new SYNs and
the clients see timeouts, not refusals.

What to do:
Look at the server process first: is it alive, blocked, at its descriptor limit? Closing or
restarting the listener resets the queue.

What not to do:
- Do not only raise the backlog (somaxconn): a server that does not accept fills any queue.
- Do not look for a leaked descriptor: these sockets have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import Kind
from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.accept_queue_full import queue_of
from twdiag.rules.close_wait import aged
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Waiting
    from twdiag.census.groups import Listener
    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "close-wait-never-accepted"
MANUAL = __doc__ or ""


def _groups(snapshot: Snapshot, limits: Limits) -> dict[Listener, list[Waiting]]:
    table = snapshot.sockets
    groups: dict[Listener, list[Waiting]] = {}
    for waiting in aged(snapshot, limits, Kind.NEVER_ACCEPTED):
        row = waiting.row
        listener = snapshot.flows.find_listener(table.src[row], table.sport[row])
        if listener is not None:
            groups.setdefault(listener, []).append(waiting)
    least = limits["close-wait-notice"]
    return {listener: group for listener, group in groups.items() if len(group) >= least}


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of the listeners that do not accept."""
    return listener_inodes(snapshot, _groups(snapshot, limits))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each listener that does not accept."""
    for listener, group in _groups(snapshot, limits).items():
        subject = listener_subject(snapshot, listener)
        queued, backlog = queue_of(snapshot, listener)
        full = backlog is not None and queued > backlog
        low = min(waiting.age_min or 0.0 for waiting in group)
        highs = [waiting.age_max for waiting in group if waiting.age_max is not None]
        high = max(highs) if highs else None
        state = ", the queue is full" if full else ""
        yield Finding(
            NAME,
            Severity.CRITICAL if full else Severity.WARNING,
            Confidence.OBSERVED,
            f"{listener_name(subject)} does not accept: {count(len(group), 'connection')} waiting "
            f"in its queue, closed by the client already, {between(low, high)}{state}",
            subject,
            {
                "close_wait": len(group),
                "accept_queue": queued,
                "backlog": backlog,
                "age_seconds_min": low,
                "age_seconds_max": high,
                "listen_overflows": snapshot.counters.get("TcpExt.ListenOverflows"),
            },
            manual.why(MANUAL),
            (
                Advice(
                    "See why the server does not call accept()",
                    "a stack dump of the process; its descriptors against its limit",
                    verify=f"ss -ltn sport = :{listener.port}: Recv-Q falls to 0",
                ),
                *software_advice(subject.processes, "server", "accept-queue"),
                Advice(
                    "Restart the server if it does not recover",
                    cost="every connection in the queue is reset",
                ),
            ),
            manual.do_not(MANUAL),
            Place.of(State.CLOSE_WAIT)._replace(next="the local application calls accept()"),
            snapshot.netns,
        )


RULE = Rule(NAME, MANUAL, check, ("sockets", "queues", "inodes", "tcp-info|earlier"), inodes)
