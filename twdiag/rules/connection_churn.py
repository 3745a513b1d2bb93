"""This host opens many short connections to one destination and closes them first.

What it means:
Hundreds of TIME_WAITs of one minute belong to connections that a client on this host made to the
same destination and closed first. That is what a client without a connection pool or keep-alive
looks like: connect, one request, close.

Why it matters:
Each connection costs a handshake (a round trip, twice or three times that with TLS), a local port
for 60 to 62 s and a socket at both ends. It works until the rate times 62 s reaches the ports of
the destination: about 455 connections per second with the default range.

What to do:
Turn on keep-alive or pooling in the client named here, and let its pool be as large as its
concurrency, so that connections are not closed and opened again under load.

What not to do:
- Do not close with SO_LINGER 0 to avoid TIME_WAIT: the peer gets a RST and may lose data.
- Do not lower tcp_fin_timeout: it does not shorten TIME_WAIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.model.limits import sockets
from twdiag.rules import manual
from twdiag.rules.behind import of_destination
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import destination_subject, names_of, owner_advice, software_advice
from twdiag.tcp import State
from twdiag.wording import count, endpoint, rate, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.census import Destination
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind

NAME = "connection-churn"
LEAST = sockets("connection-churn", 500, "connections to one destination closed here in a minute")


def select(view: View, limits: Limits) -> Iterator[Group[Destination]]:
    """Yield the destinations that are connected to again and again."""
    least = int(limits[LEAST])
    for destination in view.destinations(least):
        if destination.tally.time_wait.total >= least:
            yield Group(destination, tuple(view.live_inodes(destination)))


def tell(view: View, limits: Limits, group: Group[Destination]) -> Iterator[Finding]:
    """Yield one finding for each destination."""
    subject, closed = destination_subject(group.about), group.about.tally.time_wait
    owners, now = view.owners_of(group.inodes), view.rate_of(closed)
    least = "at least " if now.at_least else ""
    goes_on = f", {least}{rate(now.value)} now" if now.value else ""
    rows = f"ss -tan state time-wait dst {ss_address(subject.address)} dport = :{subject.port}"
    yield Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{count(closed.total, 'connection')} to {endpoint(subject.address, subject.port)} "
        f"closed by this host in the last minute ({rate(closed.mean)}{goes_on})",
        subject,
        {
            facts.TIME_WAIT: closed.total,
            facts.CLOSES: round(closed.mean, 2),
            facts.CLOSES_NOW: round(now.value, 2),
            facts.CLOSES_AT_LEAST: now.at_least,
            facts.HISTORY: list(closed.seconds),
            facts.ESTABLISHED: group.about.tally.states.get(State.ESTABLISHED, 0),
            facts.LIKELY_PROCESSES: names_of(owners),
        },
        (
            Advice(
                "Keep connections to this destination alive and reuse them",
                "a pool as large as the client's concurrency, idle timeout below the server's",
                "idle connections cost a descriptor and some memory at each end",
                f"fewer rows within 60 s: {rows}",
            ),
            *software_advice(owners, "client", "pool"),
            *software_advice(owners, "client", "keep-alive"),
            owner_advice(subject.port),
        ),
        Place.of(State.TIME_WAIT),
    )


def rows(view: View, limits: Limits, group: Group[Destination]) -> RowsBehind:
    """Return the connections to the destination that this host has closed."""
    return of_destination(view, group.about, State.TIME_WAIT)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "net.ipv4.ip_local_port_range"),
    (LEAST,),
    rows,
)
