"""A listener's accept queue is full, or live connections wait in it for long.

What it means:
The kernel completes handshakes by itself and queues the connections for accept(). The queue takes
backlog + 1 of them (the backlog is the smaller of listen()'s argument and net.core.somaxconn).
This listener's queue (Recv-Q) has reached that, or its oldest live connection has waited for long:
the process calls accept() too rarely, or not at all. One full instant proves little. It is critical
if SYNs are being dropped, if the queue was full in two samples, if live connections have waited
longer than accept-wait-critical in a full queue, or if clients have given up while they waited.

Why it matters:
To its client, a connection in the queue is open and silent: the request is sent, and no answer
comes. While the queue is full, new SYNs and last ACKs of the open are dropped, counted in
ListenOverflows and ListenDrops. Clients do not see a refusal: they retransmit, at first each second
(before Linux 6.5 after 1, 3 and 7 s), and time out in the end.

What to do:
Find out why the process accepts too slowly: it hangs, it is out of descriptors or workers, or the
load is too high. Raise the backlog only for bursts that the server can work off.

What not to do:
- Do not raise somaxconn alone: the application's own listen() argument is the limit if it is
  smaller, and it takes effect at the next listen().
- Do not stop at a longer backlog: it only lets more clients wait. Add workers, or find what they
  wait for.
- Do not set tcp_abort_on_overflow: it turns a delay into an error for every client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import CloseWaitKind
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, HostSubject, Place, Severity
from twdiag.model.limits import seconds
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind, in_states, these
from twdiag.rules.close_wait import AGE
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import count, duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.census import Listener
    from twdiag.model.findings import ListenerSubject, Value
    from twdiag.model.limits import Limits
    from twdiag.model.sockets import Socket

NAME = "accept-queue-full"
WARNING = seconds(
    "accept-wait-warning", 5, "how long a live connection waits for accept() in a full queue"
)
CRITICAL = seconds("accept-wait-critical", 30, "the same; a warning where the queue is not full")
_OVERFLOWS = "TcpExt.ListenOverflows"
_QUESTION = "is it stuck or out of workers?"
_BACKLOG = "For bursts, raise the application's backlog"


class Queue(NamedTuple):
    """An accept queue; `backlog` is None where the source does not show it."""

    waiting: int
    backlog: int | None

    @property
    def full(self) -> bool:
        """Whether one more connection waits than the backlog says, the most the kernel takes."""
        return self.backlog is not None and self.waiting > self.backlog


def queue_of(view: View, listener: Listener) -> Queue:
    """Return the queue of a listener's fullest copy."""
    socket = max(listener.sockets, key=lambda s: s.recv_q - s.send_q)
    return Queue(socket.recv_q, None if "backlog" in view.missing else socket.send_q)


def oldest_wait(view: View, listener: Listener) -> float | None:
    """Return for how long (s) the oldest live connection has waited for accept(), None unseen."""
    return max(view.unaccepted.get(listener, ()), default=None)


def accepted(view: View, listener: Listener) -> int:
    """Return how many live connections of a listener were accepted and are open.

    Not all readers show which of them nobody holds: the length of the queue tells.
    """
    served = (server for server in view.servers if server.listener == listener)
    live = sum(server.tally.states.get(State.ESTABLISHED, 0) for server in served)
    gone = sum(
        1
        for socket in view.sockets(State.CLOSE_WAIT)
        if not socket.inode and view.listener_of(socket) == listener
    )
    return max(0, live - max(0, sum(s.recv_q for s in listener.sockets) - gone))


def own_limit(accepted: int) -> str:
    """Return the question whether a server has as many connections as it lets itself have."""
    if not accepted:
        return ""
    held = count(accepted, "accepted connection")
    return f"; it holds {held}: is that a limit of its own (connections, workers)?"


def not_accepting(advice: tuple[Advice, ...]) -> tuple[Advice, ...]:
    """Return the advice as it is where nobody accepts at all: no backlog is long enough."""
    first, *others = advice
    limit = first.how.removeprefix(_QUESTION)
    how = f"a stack dump of the process{limit}"
    see = first._replace(do="See why it does not call accept()", how=how)
    return (see, *(one for one in others if one.do != _BACKLOG))


def select(view: View, limits: Limits) -> Iterator[Group[Listener | None]]:
    """Yield the listeners whose queue is full or old, or the overflows since a sample alone."""
    found = [
        listener
        for listener in view.listeners
        if _severity(view, limits, listener) is not Severity.OK
    ]
    for listener in sorted(found, key=lambda one: -queue_of(view, one).waiting):
        yield Group(listener, listener_inodes(listener))
    if view.grown(_OVERFLOWS) and not any(queue_of(view, listener).full for listener in found):
        yield Group(None)


def tell(view: View, limits: Limits, group: Group[Listener | None]) -> Iterator[Finding]:
    """Yield one finding for each listener whose queue is full or old."""
    dropped = view.grown(_OVERFLOWS)
    if group.about is None:
        yield _emptied(view, dropped or 0)
        return
    subject = listener_subject(view, group.about)
    queue, waited = queue_of(view, group.about), oldest_wait(view, group.about)
    somaxconn, held = view.sysctl("net.core.somaxconn"), accepted(view, group.about)
    yield Finding(
        _severity(view, limits, group.about),
        Confidence.OBSERVED,
        _summary(subject, queue, waited, dropped),
        subject,
        {
            facts.ACCEPT_QUEUE: queue.waiting,
            facts.BACKLOG: queue.backlog,
            facts.ACCEPTED: held,
            facts.WAITED: None if waited is None else round(waited, 1),
            facts.SOMAXCONN: somaxconn,
            facts.LISTEN_OVERFLOWS: view.counter(_OVERFLOWS),
            facts.NEW_LISTEN_OVERFLOWS: dropped,
        },
        _advice(subject, somaxconn, held),
        _place(),
    )


def _summary(
    subject: ListenerSubject, queue: Queue, waited: float | None, dropped: int | None
) -> str:
    name = listener_name(subject)
    if not queue.full:
        many = f"{count(queue.waiting, 'connection')} to {name}"
        if queue.waiting == 1:
            return f"{many} has waited {duration(waited or 0.0)} for accept()"
        return f"{many} wait for accept(), the oldest for {duration(waited or 0.0)}"
    text = f"{name} has a full accept queue: {queue.waiting:,} waiting, backlog {queue.backlog:,}"
    if waited is not None and waited >= 1:
        text += f"; the oldest has waited {duration(waited)}"
    return text + (f"; {dropped:,} SYNs dropped between the two samples" if dropped else "")


def _advice(subject: ListenerSubject, somaxconn: Value, held: int) -> tuple[Advice, ...]:
    return (
        Advice(
            "See why it accepts too slowly",
            _QUESTION + own_limit(held),
            verify="this stays the same: nstat -az TcpExtListenOverflows",
        ),
        *software_advice(subject.processes, "server", "accept-queue"),
        Advice(
            _BACKLOG,
            f"its listen() argument; net.core.somaxconn (now {somaxconn}) caps it",
            "connections wait longer instead of being dropped",
        ),
    )


def _severity(view: View, limits: Limits, listener: Listener) -> Severity:
    """Return how bad a queue is: one instant proves little, time and drops prove much."""
    queue = queue_of(view, listener)
    if not queue.waiting:
        return Severity.OK
    waited = oldest_wait(view, listener) or 0.0
    if not queue.full:
        return Severity.WARNING if waited >= limits[CRITICAL] else Severity.OK
    if view.grown(_OVERFLOWS) or _was_full(view, listener) or _given_up(view, limits, listener):
        return Severity.CRITICAL
    if waited >= limits[WARNING]:
        return Severity.CRITICAL if waited >= limits[CRITICAL] else Severity.WARNING
    return Severity.NOTICE


def _given_up(view: View, limits: Limits, listener: Listener) -> bool:
    """Return whether a client closed its connection in the queue, long ago."""
    return any(
        waiting.kind is CloseWaitKind.NEVER_ACCEPTED
        and (waiting.age_min or 0.0) >= limits[AGE]
        and view.listener_of(waiting.socket) == listener
        for waiting in view.close_waits
    )


def _was_full(view: View, listener: Listener) -> bool:
    """Return whether the queue was full in the earlier sample too."""
    if view.earlier is None:
        return False
    before = view.earlier.census.listeners.get((listener.address, listener.port))
    return before is not None and queue_of(view.earlier, before).full


def _place() -> Place:
    return Place.of(State.LISTEN)._replace(next="the application calls accept()")


def _emptied(view: View, dropped: int) -> Finding:
    """Return the finding that a queue was full between the samples, though none is now."""
    fullest = sorted(view.listeners, key=lambda found: -queue_of(view, found).waiting)[:3]
    return Finding(
        Severity.WARNING,
        Confidence.OBSERVED,
        f"{count(dropped, 'connection')} met a full accept queue since the first sample; no queue "
        "is full now",
        HostSubject(),
        {
            facts.NEW_LISTEN_OVERFLOWS: dropped,
            facts.LISTEN_OVERFLOWS: view.counter(_OVERFLOWS),
            facts.FULLEST_LISTENERS: [endpoint(found.address, found.port) for found in fullest],
        },
        (
            Advice(
                "Find the listener that bursts reach faster than it accepts",
                "watch Recv-Q against Send-Q: ss -ltn",
                verify="this stays the same: nstat -az TcpExtListenOverflows",
            ),
        ),
        _place(),
    )


def rows(view: View, limits: Limits, group: Group[Listener | None]) -> RowsBehind:
    """Return the listener and what waits in its queue: connections that nobody holds yet."""
    listener = group.about
    if listener is None:
        return in_states(State.LISTEN)
    copies = these(listener.sockets)

    def fits(socket: Socket) -> bool:
        if socket.state in (State.ESTABLISHED, State.CLOSE_WAIT):
            return not socket.inode and view.listener_of(socket) == listener
        return copies.fits(socket)

    return RowsBehind(fits)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "queues", "backlog"),
    (WARNING, CRITICAL),
    rows,
)
