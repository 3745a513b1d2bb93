"""This host opens many short connections to one destination and closes them first.

What it means:
Hundreds of TIME_WAITs of one minute belong to connections that a client on this host made to the
same destination and closed first. That is what a client without a connection pool or keep-alive
looks like: connect, one request, close.

Why it matters:
Each connection costs a handshake (a round trip, twice or three times that with TLS), a local port
for 60 s and a socket at both ends. It works until the rate times 60 s reaches the ports of the
destination: about 470 connections per second with the default range.

What to do:
Turn on keep-alive or pooling in the client named here, and let its pool be as large as its
concurrency, so that connections are not closed and opened again under load.

What not to do:
- Do not close with SO_LINGER 0 to avoid TIME_WAIT: the peer gets a RST and may lose data.
- Do not lower tcp_fin_timeout: it does not shorten TIME_WAIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.subjects import client_owners, destination_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import count, endpoint, rate, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.census.groups import Destination
    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "connection-churn"
MANUAL = __doc__ or ""


def _concerned(snapshot: Snapshot, limits: Limits) -> list[Destination]:
    least = int(limits["connection-churn"])
    found = snapshot.flows.destinations(least)
    return [destination for destination in found if destination.time_wait.total >= least]


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield inodes of live sockets to the destinations concerned."""
    for destination in _concerned(snapshot, limits):
        yield from snapshot.flows.live_inodes(destination)


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each destination that is connected to again and again."""
    for destination in _concerned(snapshot, limits):
        subject = destination_subject(snapshot, destination)
        owners = client_owners(snapshot, destination)
        likely = f", probably by {owners[0].name} (pid {owners[0].pid})" if owners else ""
        closed = destination.time_wait
        yield Finding(
            NAME,
            Severity.NOTICE,
            Confidence.OBSERVED,
            f"{count(closed.total, 'connection')} to {endpoint(subject.address, subject.port)} "
            f"closed by this host within the minute ({rate(closed.mean)}){likely}",
            subject,
            {
                "time_wait": closed.total,
                "closes_per_second": round(closed.mean, 2),
                "recent_closes_per_second": closed.recent,
                "closes_per_second_history": list(closed.seconds),
                "established": destination.states.get(State.ESTABLISHED, 0),
                "likely_processes": [owner.name for owner in owners],
            },
            manual.why(MANUAL),
            (
                Advice(
                    "Keep connections to this destination alive and reuse them",
                    "a pool as large as the client's concurrency, idle timeout below the server's",
                    "idle connections cost a descriptor and some memory at each end",
                    "fewer rows within 60 s: ss -tan state time-wait dst "
                    f"{ss_address(subject.address)} dport = :{subject.port}",
                ),
                *software_advice(owners, "client", "pool"),
                *software_advice(owners, "client", "keep-alive"),
            ),
            manual.do_not(MANUAL),
            Place.of(State.TIME_WAIT),
            snapshot.netns,
        )


RULE = Rule(NAME, MANUAL, check, ("sockets", "net.ipv4.ip_local_port_range"), inodes)
