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
Look at the server process first: is it alive, blocked, at its descriptor limit, or at a limit of
connections or workers of its own, which idle clients may use up? Closing or restarting the
listener resets the queue.

What not to do:
- Do not only raise the backlog (somaxconn): it only lets more clients wait. Add workers, or find
  what they wait for.
- Do not look for a leaked descriptor: these sockets have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import CloseWaitKind
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.rules import close_wait, manual
from twdiag.rules.accept_queue_full import accepted, own_limit, queue_of
from twdiag.rules.behind import these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import between, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.half_closed import Waiting
    from twdiag.analysis.view import View
    from twdiag.model.census import Listener
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind

NAME = "close-wait-never-accepted"

_Queued = tuple["Listener", list["Waiting"]]


def select(view: View, limits: Limits) -> Iterator[Group[_Queued]]:
    """Yield the listeners that do not accept, with what waits in their queues."""
    queued: dict[tuple[str, int], _Queued] = {}
    for group in close_wait.aged(view, limits, CloseWaitKind.NEVER_ACCEPTED):
        for waiting in group.about:
            listener = view.listener_of(waiting.socket)
            if listener is not None:
                end = listener.address, listener.port
                queued.setdefault(end, (listener, []))[1].append(waiting)
    for listener, found in sorted(queued.values(), key=lambda one: -len(one[1])):
        if len(found) >= limits[close_wait.NOTICE]:
            yield Group((listener, found), listener_inodes(listener))


def tell(view: View, limits: Limits, group: Group[_Queued]) -> Iterator[Finding]:
    """Yield one finding for each listener that does not accept."""
    listener, queued = group.about
    subject, queue = listener_subject(view, listener), queue_of(view, listener)
    low = min(waiting.age_min or 0.0 for waiting in queued)
    high = max((w.age_max for w in queued if w.age_max is not None), default=None)
    held = accepted(view, listener)
    state = "; the queue is full" if queue.full else ""
    yield Finding(
        Severity.CRITICAL if queue.full else Severity.WARNING,
        Confidence.OBSERVED,
        f"{listener_name(subject)} is not calling accept(): "
        f"{count(len(queued), 'queued connection')} already closed by the client, "
        f"{between(low, high)}{state}",
        subject,
        {
            facts.CLOSE_WAIT: len(queued),
            facts.ACCEPT_QUEUE: queue.waiting,
            facts.BACKLOG: queue.backlog,
            facts.ACCEPTED: held,
            facts.AGE_MIN: low,
            facts.AGE_MAX: high,
            facts.LISTEN_OVERFLOWS: view.counter("TcpExt.ListenOverflows"),
        },
        (
            Advice(
                "See why the server does not call accept()",
                "a stack dump of the process; its descriptors against its limit" + own_limit(held),
                verify=f"Recv-Q falls to 0: ss -ltn sport = :{listener.port}",
            ),
            *software_advice(subject.processes, "server", "accept-queue"),
            Advice(
                "Restart the server if it does not recover",
                cost="every connection in the queue is reset",
            ),
        ),
        Place.of(State.CLOSE_WAIT)._replace(next="the local application calls accept()"),
    )


def rows(view: View, limits: Limits, group: Group[_Queued]) -> RowsBehind:
    """Return the connections in the queue whose clients have gone."""
    _, queued = group.about
    return these(waiting.socket for waiting in queued)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "queues", "inodes", "tcp-info|earlier"),
    (close_wait.AGE, close_wait.NOTICE),
    rows,
)
