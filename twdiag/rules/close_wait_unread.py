"""A process holds connections that the peer closed and does not read what they still carry.

What it means:
CLOSE_WAIT with unread bytes: the peer sent data and its FIN, and the application has read neither
to the end. Recv-Q is the number of unread bytes plus one for the FIN; Recv-Q 1 means that only
the end of the stream is unread. On a server that means a reader that has stopped reading; on a
client, responses that were never read to their end, which leak where more and more of them wait.

Why it matters:
The thread, worker or event loop in charge of these connections is stuck: blocked on something
else, deadlocked or starved. Requests may be lying there unanswered, from peers that have already
given up. When it closes such a socket with data unread, the peer gets a RST instead of a FIN.

What to do:
Look at what the process is doing now: a stack dump (jstack, py-spy, gdb, SIGQUIT for Go and
Java), a backend it waits for, a lock. The sockets are the symptom. A helper that only inherited
them reads none, and no stack shows why: end it.

What not to do:
- Do not tune socket buffers or sysctls: the bytes have arrived, nobody reads them.
- Do not raise timeouts: the peers have already gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import POOL_RECV_Q, CloseWaitKind
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

NAME = "close-wait-unread"
_STACK = "take a stack dump; "
_STUCK = "deadlocked or starved."  # the end of the sentence in the manual that says so


def select(view: View, limits: Limits) -> Iterator[Group[Aged]]:
    """Yield the old CLOSE_WAITs with unread data."""
    return close_wait.aged(view, limits, CloseWaitKind.UNREAD)


def tell(view: View, limits: Limits, group: Group[Aged]) -> Iterator[Finding]:
    """Yield one finding for each process whose reader is stuck."""
    for holder in close_wait.noticed(view, limits, group):
        left = close_wait.seconds_to_limit(holder, view)
        yield _finding(holder, limits, left)


def _severity(holder: Holder, limits: Limits, server: bool, left: float | None) -> Severity:
    # A TLS close_notify before the FIN is no request that somebody waits for.
    queues = (w.socket.recv_q for w in holder.sockets)
    requests = sum(queue - 1 for queue in queues if queue not in POOL_RECV_Q)
    # A client's idle pool can hold a last message of the server too (HTTP 408, "shutting down"), so
    # only a server that does not read is surely stuck.  And a server that has read the request and
    # works on it leaves the FIN unread: that is not stuck before it has lasted.
    many = close_wait.settled(holder, limits) >= limits[close_wait.WARNING]
    # A client leaks unread responses where their number grows; a slow one holds the same number.
    soon = left is not None and left <= limits[close_wait.LEAK_SECONDS]
    stuck = (requests > 0 or many) if server else soon or (many and bool(holder.new()))
    return Severity.WARNING if stuck else Severity.NOTICE


def _finding(holder: Holder, limits: Limits, left: float | None) -> Finding:
    queues = [w.socket.recv_q for w in holder.sockets]
    unread = sum(queues) - len(queues)  # each FIN occupies one sequence number
    server = any(w.server for w in holder.sockets)
    owners = (holder.owner,) if holder.owner else ()
    what = f"{count(unread, 'byte')} unread" if unread else "only the FIN is unread"
    growth = ""
    if left is not None and not holder.new():
        growth = f"; if none is closed, the descriptor limit is reached in {duration(left)}"
    return Finding(
        _severity(holder, limits, server, left),
        Confidence.OBSERVED,
        f"{holder.name} does not read {count(len(queues), 'connection')} that the peer closed: "
        f"{what}, {between(holder.age_min, holder.age_max)}{growth}",
        holder_subject(holder),
        close_wait.evidence(holder)
        | {
            facts.RECV_Q: max(queues),
            facts.UNREAD_BYTES: unread,
            facts.SERVER_SIDE: server,
            facts.SECONDS_LEFT: None if left is None else round(left, 1),
        },
        (
            Advice(
                "See where the process is stuck",
                f"{_STACK}the connections are {close_wait.peers_text(holder)}",
                verify=f"Recv-Q falls to 0, then the rows go: twdiag sockets --rule {NAME}",
            ),
            *software_advice(owners, "server", "close-wait"),
        ),
        Place.of(State.CLOSE_WAIT),
    )


def unwatched(advice: Advice, *, served: bool) -> Advice:
    """Return the first advice as it is where nothing watches the sockets: nobody is stuck."""
    do = "Find where the program stops watching a connection without closing it"
    if not served:
        do = "Find which client of the program keeps them: a pool, or a response never closed"
    return advice._replace(do=do, how=advice.how.removeprefix(_STACK))


def without_stuck(why: str) -> str:
    """Return why it matters where nobody is stuck: without the sentence that says so."""
    _, _, rest = why.partition(_STUCK)
    return f"Each of them keeps a descriptor until it is closed.{rest}" if rest else why


def rows(view: View, limits: Limits, group: Group[Aged]) -> RowsBehind:
    """Return the sockets of the programs that are told of."""
    return close_wait.rows_of(close_wait.noticed(view, limits, group))


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "queues", "inodes", "tcp-info|earlier"),
    (*close_wait.LIMITS, close_wait.LEAK_SECONDS),
    rows,
)
