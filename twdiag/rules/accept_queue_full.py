"""A listener's accept queue is full, so new connections are dropped.

What it means:
The kernel completes handshakes on its own and queues the connections for accept(). The queue
takes backlog + 1 of them (the backlog is the smaller of listen()'s argument and
net.core.somaxconn). This listener's queue (Recv-Q) has reached that. That it was so for one
instant proves little; it is critical if SYNs are being dropped, if it was full in two samples, or
if connections wait in it that their clients have given up.

Why it matters:
While it is full, new SYNs and last ACKs of the open are dropped, counted in ListenOverflows and
ListenDrops. Clients do not see a refusal: they retransmit, at first each second (before Linux 6.5
after 1, 3 and 7 s), and time out in the end.

What to do:
Find out why the process accepts too slowly: it hangs, it is out of descriptors or workers, or the
load is too high. Raise the backlog only for bursts that the server can work off.

What not to do:
- Do not raise somaxconn alone: the application's own listen() argument is the limit if it is
  smaller, and it takes effect at the next listen().
- Do not set tcp_abort_on_overflow: it turns a delay into an error for every client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import Kind
from twdiag.model import Advice, Confidence, Finding, HostSubject, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import count, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.census.groups import Listener
    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "accept-queue-full"
MANUAL = __doc__ or ""


_PLACE = Place.of(State.LISTEN)._replace(next="the application calls accept()")


def queue_of(snapshot: Snapshot, listener: Listener) -> tuple[int, int | None]:
    """Return (connections waiting for accept(), backlog) of a listener's fullest copy.

    The backlog is None where the source does not show it.
    """
    table = snapshot.sockets
    row = max(listener.rows, key=lambda r: table.recv_q[r] - table.send_q[r])
    backlog = None if "backlog" in snapshot.missing else table.send_q[row]
    return table.recv_q[row], backlog


def _full(snapshot: Snapshot) -> Iterator[Listener]:
    for listener in snapshot.flows.listeners.values():
        queued, backlog = queue_of(snapshot, listener)
        if backlog is not None and queued > backlog:
            yield listener


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of the listeners whose queue is full."""
    return listener_inodes(snapshot, _full(snapshot))


def _severity(snapshot: Snapshot, limits: Limits, listener: Listener) -> Severity:
    """Return how bad a full queue is: one instant proves little, time and drops prove much."""
    if snapshot.grown("TcpExt.ListenOverflows") or _was_full(snapshot, listener):
        return Severity.CRITICAL
    table, least = snapshot.sockets, limits["close-wait-age"]
    for waiting in snapshot.close_waits:
        ends = table.src[waiting.row], table.sport[waiting.row]
        forgotten = waiting.kind is Kind.NEVER_ACCEPTED and (waiting.age_min or 0.0) >= least
        if forgotten and snapshot.flows.find_listener(*ends) == listener:
            return Severity.CRITICAL
    return Severity.NOTICE


def _was_full(snapshot: Snapshot, listener: Listener) -> bool:
    """Return whether the queue was full in the earlier sample too."""
    earlier = snapshot.earlier
    if earlier is None:
        return False
    same = snapshot.sockets.addresses.text(listener.address), listener.port
    texts = earlier.sockets.addresses.text
    return any((texts(found.address), found.port) == same for found in _full(earlier))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each listener whose queue is full."""
    full = list(_full(snapshot))
    refused = snapshot.grown("TcpExt.ListenOverflows")
    if refused and not full:
        yield _emptied(snapshot, refused)
    for listener in full:
        subject = listener_subject(snapshot, listener)
        queued, backlog = queue_of(snapshot, listener)
        drops = snapshot.grown("TcpExt.ListenOverflows")
        grown = f"; {drops:,} SYNs dropped between the two samples" if drops else ""
        somaxconn = snapshot.sysctl("net.core.somaxconn")
        yield Finding(
            NAME,
            _severity(snapshot, limits, listener),
            Confidence.OBSERVED,
            f"the accept queue of {listener_name(subject)} is full: {queued:,} waiting, backlog "
            f"{backlog:,}{grown}",
            subject,
            {
                "accept_queue": queued,
                "backlog": backlog,
                "somaxconn": somaxconn,
                "listen_overflows": snapshot.counters.get("TcpExt.ListenOverflows"),
                "new_listen_overflows": drops,
            },
            manual.why(MANUAL),
            (
                Advice(
                    "See why the server accepts too slowly",
                    "is it blocked, out of workers, or at its descriptor limit?",
                    verify="this stays the same: nstat -az TcpExtListenOverflows",
                ),
                *software_advice(subject.processes, "server", "accept-queue"),
                Advice(
                    "For bursts, raise the application's backlog",
                    f"its listen() argument; net.core.somaxconn (now {somaxconn}) caps it",
                    "connections wait longer instead of being dropped",
                ),
            ),
            manual.do_not(MANUAL),
            _PLACE,
            snapshot.netns,
        )


def _emptied(snapshot: Snapshot, refused: int) -> Finding:
    """Return the finding that a queue was full between the samples, though none is now."""
    fullest = sorted(
        snapshot.flows.listeners.values(),
        key=lambda found: -queue_of(snapshot, found)[0],
    )[:3]
    text = snapshot.sockets.addresses.text
    return Finding(
        NAME,
        Severity.WARNING,
        Confidence.OBSERVED,
        f"{count(refused, 'connection')} met a full accept queue since the first sample; no queue "
        "is full now",
        HostSubject(),
        {
            "new_listen_overflows": refused,
            "listen_overflows": snapshot.counters.get("TcpExt.ListenOverflows"),
            "fullest_listeners": [endpoint(text(found.address), found.port) for found in fullest],
        },
        manual.why(MANUAL),
        (
            Advice(
                "Find the listener: bursts reach it faster than it accepts",
                "watch the queues: ss -ltn (Recv-Q against Send-Q)",
                verify="this stays the same: nstat -az TcpExtListenOverflows",
            ),
        ),
        manual.do_not(MANUAL),
        _PLACE,
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "queues", "backlog"), inodes)
