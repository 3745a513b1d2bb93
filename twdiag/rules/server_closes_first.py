"""A server on this host closes its connections first, so the TIME_WAITs stay here.

What it means:
Of the two ends of a connection, the one that closes first (the active closer) keeps the socket in
TIME_WAIT for 60 s after the last ACK. Sockets in FIN_WAIT1, FIN_WAIT2 and TIME_WAIT whose local
address and port belong to a listener of this host were closed first by that server.

Often the client asked for it: HTTP/1.0 (ab), or `Connection: close` (nginx as a proxy before
1.29.7, HAProxy's http-server-close, many health checks). The server then closes after the
response, whatever its keep-alive settings say.

Why it matters:
A server's TIME_WAIT costs about 256 bytes and no ephemeral port, so by itself it harms nobody. It
does fill the TIME_WAIT table (tcp_max_tw_buckets), it blocks bind() after a restart unless the
server sets SO_REUSEADDR, and it shows that connections live for one request only or end at the
server's idle timeout, which costs every client a new handshake.

A pooled client can send its next request while the server is closing an idle connection: a 502 at
a proxy, ECONNRESET in a program. The server's idle timeout must be longer than the client's: see
keep-alive-race, which takes twdiag diagnose --interval 30 to tell.

What to do:
Decide whether you mind. If connections are short because keep-alive is off or its timeout is
short, let clients keep their connections and close them themselves. If they are meant to be
short, leave everything as it is.

What not to do:
- Do not lower tcp_fin_timeout: it limits orphaned FIN_WAIT2 sockets only; TIME_WAIT is 60 s,
  compiled into the kernel.
- Do not set tcp_tw_reuse for this: it serves outgoing connections only.
- Do not lower tcp_max_tw_buckets: above it the protection against old segments is lost silently.
- Do not close with SO_LINGER 0: the client gets a RST and may lose data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.model.limits import ratio, sockets
from twdiag.rules import manual
from twdiag.rules.behind import of_listener
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import (
    listener_inodes,
    listener_name,
    listener_subject,
    owner_advice,
    software_advice,
)
from twdiag.tcp import State
from twdiag.wording import count, rate, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.rates import Rate
    from twdiag.analysis.view import View
    from twdiag.model.census import Server
    from twdiag.model.findings import ListenerSubject, Value
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Owner
    from twdiag.rules.behind import RowsBehind

NAME = "server-closes-first"
LEAST = sockets("server-closes-first", 20, "sockets of one listener that this host closed first")
TABLE = ratio(
    "server-closes-first-table", 0.5, "share of tcp_max_tw_buckets that one listener fills"
)
_TABLE_SIZE = "net.ipv4.tcp_max_tw_buckets"
_REPLACED = 1.2


def select(view: View, limits: Limits) -> Iterator[Group[Server]]:
    """Yield the listeners whose server is the active closer."""
    for server in view.servers:
        if server.closed_first >= limits[LEAST]:
            yield Group(server, listener_inodes(server.listener))


def tell(view: View, limits: Limits, group: Group[Server]) -> Iterator[Finding]:
    """Yield one finding for each listener."""
    server, size = group.about, view.sysctl(_TABLE_SIZE)
    subject = listener_subject(view, server.listener)
    waiting = server.tally.time_wait.total
    filled = waiting / size if size and size > 0 else None
    full = filled is not None and filled >= limits[TABLE]
    yield Finding(
        Severity.WARNING if full else Severity.NOTICE,
        Confidence.OBSERVED,
        _summary(subject, server, view.rate_of(server.tally.time_wait), filled if full else None),
        subject,
        _evidence(server, view.rate_of(server.tally.time_wait), filled, size),
        _advice(view, subject.processes, server),
        Place.of(State.TIME_WAIT if waiting else State.FIN_WAIT2),
    )


def _waits(server: Server) -> tuple[int, int]:
    states = server.tally.states
    return states.get(State.FIN_WAIT1, 0), states.get(State.FIN_WAIT2, 0)


def _summary(subject: ListenerSubject, server: Server, now: Rate, filled: float | None) -> str:
    closed, waits = server.tally.time_wait, sum(_waits(server))
    parts = []
    if closed.total:
        parts.append(count(closed.total, "TIME_WAIT"))
    if waits:
        parts.append(f"{count(waits, 'socket')} in FIN_WAIT")
    text = f"{listener_name(subject)} closes first: {' and '.join(parts)}"
    if closed.total:
        least = "at least " if now.at_least else ""
        goes_on = f"{least}{rate(now.value)} now, " if now.value else ""
        text += f", {goes_on}{rate(closed.mean)} over the last minute"
        if now.value > _REPLACED * max(closed.mean, closed.recent):
            text = (
                f"{listener_name(subject)} closes first: {rate(now.value)} now by the kernel's "
                f"counters; {closed.total:,} TIME_WAITs are left because ports are used again"
            )
    return f"{text}; that is {share(filled)} of the TIME_WAIT table" if filled else text


def _evidence(
    server: Server, now: Rate, filled: float | None, size: int | None
) -> dict[str, Value]:
    closed, (fin_wait1, fin_wait2) = server.tally.time_wait, _waits(server)
    return {
        facts.TIME_WAIT: closed.total,
        facts.FIN_WAIT1: fin_wait1,
        facts.FIN_WAIT2: fin_wait2,
        facts.CLOSES: round(closed.mean, 2),
        facts.CLOSES_NOW: round(now.value, 2),
        facts.CLOSES_AT_LEAST: now.at_least,
        facts.HISTORY: list(closed.seconds),
        facts.TABLE_RATIO: None if filled is None else round(filled, 4),
        facts.LIMIT: size,
        facts.TOP_CLIENTS: [address for address, _ in server.clients] or None,
        facts.TOP_CLIENT_SOCKETS: [number for _, number in server.clients] or None,
    }


def _advice(view: View, processes: tuple[Owner, ...], server: Server) -> tuple[Advice, ...]:
    unseen = () if processes else (owner_advice(server.listener.port, "it was not seen"),)
    state = "time-wait" if server.tally.time_wait.total else "fin-wait-2"
    return (
        Advice(
            "See whether the clients ask it to close",
            'HTTP/1.0 or "Connection: close" in the access log or a capture; if not, see its '
            "keep-alive setting, its idle timeout and its limit of requests per connection",
            verify=f"fewer rows: ss -tanH state {state} sport = :{server.listener.port}",
        ),
        *software_advice(processes, "server", "closes-first"),
        Advice(
            "Let the client close where you own both ends, or keep connections alive longer",
            "raise the server's idle timeout above the clients' and load balancer's",
            "each idle connection keeps one descriptor and some memory",
            "the share of TIME_WAIT on this port falls within 60 s",
        ),
        *unseen,
        Advice("Do nothing if short connections are intended", "", "about 256 bytes each for 60 s"),
    )


def rows(view: View, limits: Limits, group: Group[Server]) -> RowsBehind:
    """Return the connections of the listener that this host closed first."""
    closed = (State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2)
    return of_listener(view, group.about.listener, *closed)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets",),
    (LEAST, TABLE),
    rows,
)
