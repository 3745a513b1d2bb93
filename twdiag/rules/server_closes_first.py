"""A server on this host closes its connections first, so the TIME_WAITs stay here.

What it means:
Of the two ends of a connection, the one that closes first (the active closer) keeps the socket in
TIME_WAIT for 60 s after the last ACK. Sockets in FIN_WAIT1, FIN_WAIT2 and TIME_WAIT whose local
address and port belong to a listener of this host were closed first by that server.

Why it matters:
A server's TIME_WAIT costs about 256 bytes and no ephemeral port, so by itself it harms nobody. It
does fill the TIME_WAIT table (tcp_max_tw_buckets), it blocks bind() after a restart unless the
server sets SO_REUSEADDR, and it tells that connections live only for one request or die of the
server's idle timeout, which costs every client a new handshake.

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

from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.subjects import (
    listener_inodes,
    listener_name,
    listener_subject,
    software_advice,
)
from twdiag.tcp import State
from twdiag.wording import count, rate, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.census.groups import Server
    from twdiag.model import ListenerSubject, Owner, Snapshot, Value
    from twdiag.model.limits import Limits

NAME = "server-closes-first"
MANUAL = __doc__ or ""
_MOST_WITH_CLIENTS = 8  # to count the clients of a listener takes another look at every row


def _concerned(snapshot: Snapshot, limits: Limits) -> list[Server]:
    least = limits["server-closes-first"]
    return [server for server in snapshot.flows.servers if server.sockets >= least]


def inodes(snapshot: Snapshot, limits: Limits) -> Iterable[int]:
    """Yield the inodes of the listeners concerned."""
    return listener_inodes(snapshot, (s.listener for s in _concerned(snapshot, limits)))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each listener whose server is the active closer."""
    table_size = snapshot.sysctl("net.ipv4.tcp_max_tw_buckets")
    for place, server in enumerate(_concerned(snapshot, limits)):
        subject = listener_subject(snapshot, server.listener)
        filled = server.time_wait.total / table_size if table_size and table_size > 0 else None
        full = filled is not None and filled >= limits["server-closes-first-table"]
        yield Finding(
            NAME,
            Severity.WARNING if full else Severity.NOTICE,
            Confidence.OBSERVED,
            _summary(subject, server, filled if full else None),
            subject,
            _evidence(snapshot, server, filled, place < _MOST_WITH_CLIENTS),
            manual.why(MANUAL),
            _advice(subject.processes, subject.port),
            manual.do_not(MANUAL),
            Place.of(State.TIME_WAIT if server.time_wait.total else State.FIN_WAIT2),
            snapshot.netns,
        )


def _summary(subject: ListenerSubject, server: Server, filled: float | None) -> str:
    name = listener_name(subject)
    waits = server.fin_wait1 + server.fin_wait2
    parts = []
    if server.time_wait.total:
        parts.append(count(server.time_wait.total, "TIME_WAIT"))
    if waits:
        parts.append(f"{count(waits, 'socket')} in FIN_WAIT")
    text = f"{name} closes first: {' and '.join(parts)}"
    if server.time_wait.total:
        text += f", {rate(server.time_wait.mean)} in the minute"
    return f"{text}; that is {share(filled)} of the TIME_WAIT table" if filled else text


def _evidence(
    snapshot: Snapshot, server: Server, filled: float | None, with_clients: bool
) -> dict[str, Value]:
    text = snapshot.sockets.addresses.text
    clients = snapshot.flows.clients_of(server.listener) if with_clients else None
    return {
        "time_wait": server.time_wait.total,
        "fin_wait1": server.fin_wait1,
        "fin_wait2": server.fin_wait2,
        "closes_per_second": round(server.time_wait.mean, 2),
        "recent_closes_per_second": server.time_wait.recent,
        "closes_per_second_history": list(server.time_wait.seconds),
        "table_ratio": None if filled is None else round(filled, 4),
        "limit": snapshot.sysctl("net.ipv4.tcp_max_tw_buckets"),
        "top_clients": None if clients is None else [text(address) for address, _ in clients],
        "top_client_sockets": None if clients is None else [number for _, number in clients],
    }


def _advice(processes: tuple[Owner, ...], port: int) -> tuple[Advice, ...]:
    return (
        Advice(
            "Find out why this server closes first",
            "its keep-alive setting, its idle timeout, or a limit of requests per connection",
            verify=f"fewer rows: ss -tanH state time-wait sport = :{port}",
        ),
        *software_advice(processes, "server", "closes-first"),
        Advice(
            "Let the client close where you own both ends, or keep connections alive longer",
            "raise the server's idle timeout above the clients' and load balancer's",
            "each idle connection keeps one descriptor and some memory",
            "the share of TIME_WAIT on this port falls within 60 s",
        ),
        Advice("Do nothing if short connections are intended", "", "about 256 bytes each for 60 s"),
    )


RULE = Rule(NAME, MANUAL, check, ("sockets",), inodes)
