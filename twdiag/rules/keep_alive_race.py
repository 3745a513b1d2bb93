"""A server on this host closes idle connections while their clients still use them.

What it means:
The server ends a connection that was idle for its keep-alive time. In the same moment, or later,
the client or the proxy in front takes this connection from its pool and sends the next request.
Nobody is left to read it, and the kernel answers it with a RST: the request is lost.

The idle timeout is measured, at connections that this host closed first, all after the same idle
time. A client that sent again after a pause nearly as long has no shorter limit. Seeing it takes
time: twdiag watch, twdiag diagnose --interval 30, or twdiag trace, which as root also sees what
clients elsewhere sent too late. Data is a lost request where it crossed the FIN, or where its
sender is on this host and sent more than 90 bytes. Other data may be last words, with which a TLS
client, MySQL or HTTP/2 answers a close and which nobody misses: it is not counted in the first
0.2 s, and later it is told as what it may be.

Why it matters:
The client sees ECONNRESET, EPIPE or an empty answer, a proxy answers 502. It happens rarely, at low
load most of all, leaves nothing in the server's log, and never shows in a test.

What to do:
Let the end that sends requests close idle connections, because it knows that it is not about to
send. Give the server a longer idle timeout than any client or balancer in front of it keeps its
connections: 65 or 75 s for a balancer with 60 s. Or give the clients a shorter limit.

A client that looks whether the server has closed before it sends makes the race rarer, and does not
end it. One that repeats a request that may be repeated (GET) on a new connection hides it.

What not to do:
- Do not turn keep-alive off at the server: each request then costs a handshake, and a TIME_WAIT.
- Do not raise a timeout of TCP keepalive for this: it never ends a connection whose peer is alive.
- Do not give both ends the same time: then they close in the same moment.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from twdiag.analysis.idle_timeouts import idle_timeout
from twdiag.census.listeners import find_listener
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.model.limits import ratio, sockets
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.idle_settings import client_settings, server_settings
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject, trace_command
from twdiag.tcp import State
from twdiag.wording import count, pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twdiag.analysis.idle_timeouts import IdleTimeout
    from twdiag.analysis.view import View
    from twdiag.model.census import Listener
    from twdiag.model.findings import ListenerSubject, Value
    from twdiag.model.idling import IdleEnd, Idling
    from twdiag.model.limits import Limits

_N = TypeVar("_N", int, float)

NAME = "keep-alive-race"
LEAST = sockets("keep-alive-race", 3, "idle connections that a server closed after the same time")
REUSE = ratio(
    "keep-alive-race-reuse", 0.5, "share of the idle timeout after which their clients sent again"
)
_MOST_CLIENTS = 3


class Race(NamedTuple):
    """A listener whose idle timeout can meet a request, and the connections that show it.

    `used` were used again after a pause nearly as long as the timeout, `lost` met a request, `late`
    met data that may have been one.
    """

    listener: Listener
    timeout: IdleTimeout
    used: tuple[IdleEnd, ...]
    lost: int
    late: int
    by_peers: tuple[float, ...]
    open_for: float | None


def select(view: View, limits: Limits) -> Iterator[Group[Race]]:
    """Yield the listeners whose server closes connections that their clients still use."""
    watched = view.snapshot.watched
    if watched is None:
        return
    of_listener: dict[tuple[str, int], list[Idling]] = {}
    for idling in watched.idling:
        listener = find_listener(view.census.listeners, idling.local, idling.local_port)
        if listener is not None:
            of_listener.setdefault((listener.address, listener.port), []).append(idling)
    for key, parts in of_listener.items():
        race = _race(view.census.listeners[key], parts, limits)
        if race is not None:
            yield Group(race, listener_inodes(race.listener))


def _race(listener: Listener, parts: Iterable[Idling], limits: Limits) -> Race | None:
    parts = tuple(parts)
    ends = [end for part in parts for end in part.ends]
    least = int(limits[LEAST])
    timeout = idle_timeout(ends, least)
    if timeout is None:
        return None
    enough = limits[REUSE] * timeout.low
    used = tuple(end for end in timeout.ends if (end.reused_after or 0.0) >= enough)
    lost = sum(end.lost for end in timeout.ends)
    late = sum(end.late for end in timeout.ends)
    if not lost and max(len(used), late) < least:
        return None
    by_peers = tuple(idle for part in parts for idle in part.by_peers)
    open_for = [part.open_for for part in parts if part.open_for is not None]
    return Race(listener, timeout, used, lost, late, by_peers, max(open_for, default=None))


def tell(view: View, limits: Limits, group: Group[Race]) -> Iterator[Finding]:
    """Yield one finding for each listener."""
    del limits
    race = group.about
    subject = listener_subject(view, race.listener)
    yield Finding(
        Severity.WARNING if race.lost else Severity.NOTICE,
        Confidence.OBSERVED if race.lost else Confidence.INFERRED,
        _summary(subject, race),
        subject,
        _evidence(view, race),
        _advice(view, subject, race),
        _place(race),
    )


def _place(race: Race) -> Place:
    """Return where the closed connections are; a RST ends those in FIN_WAIT2 that data meets.

    Those that meet no data close in order and leave a TIME_WAIT.
    """
    if race.lost or race.late:
        return Place.of(State.FIN_WAIT2)._replace(next="the client's data arrives, a RST goes back")
    return Place.of(State.TIME_WAIT)


def _summary(subject: ListenerSubject, race: Race) -> str:
    ends, after = len(race.timeout.ends), pause(race.timeout.low)
    closes = f"closes idle connections after {after}"
    if race.lost:
        # What is lost comes first: a pager shows the first clause alone.
        return (
            f"{listener_name(subject)} lost {count(race.lost, 'request')} in "
            f"{count(ends, 'close')}: it {closes} while their clients still use them"
        )
    text = f"{listener_name(subject)} {closes}"
    if race.late:
        return (
            f"{text} while their clients still hold them: data came after {race.late:,} of "
            f"{count(ends, 'close')}, lost requests or late last words"
        )
    longest = max(end.reused_after or 0.0 for end in race.used)
    return (
        f"{text}, and clients use them again after pauses of {pause(longest)}: a request can meet "
        "the close"
    )


def _evidence(view: View, race: Race) -> dict[str, Value]:
    ends, watched = race.timeout.ends, view.snapshot.watched
    requests = [end.requests for end in ends if end.requests is not None]
    clients = Counter(end.remote for end in ends).most_common(_MOST_CLIENTS)
    longest = max((end.reused_after for end in race.used if end.reused_after), default=None)
    sees_lost = watched is not None and watched.sees_lost
    return {
        facts.IDLE_TIMEOUT: round(race.timeout.low, 2),
        facts.IDLE_TIMEOUT_MAX: round(race.timeout.high, 2),
        facts.IDLE_CLOSES: len(ends),
        facts.LOST_REQUESTS: race.lost if race.lost or (sees_lost and not race.late) else None,
        facts.LATE_DATA: race.late if race.late or sees_lost else None,
        facts.USED_AGAIN: len(race.used),
        facts.USED_AFTER: None if longest is None else round(longest, 2),
        facts.REQUESTS: _middle(requests) if requests else None,
        facts.IDLE_OPEN: None if race.open_for is None else round(race.open_for, 2),
        facts.PEER_CLOSES: len(race.by_peers),
        facts.PEER_IDLE: round(_middle(race.by_peers), 2) if race.by_peers else None,
        facts.WATCHED: None if watched is None else round(watched.seconds, 1),
        facts.TOP_CLIENTS: [address for address, _ in clients],
        facts.TOP_CLIENT_SOCKETS: [number for _, number in clients],
    }


def _middle(numbers: Sequence[_N]) -> _N:
    return sorted(numbers)[len(numbers) // 2]


def _advice(view: View, subject: ListenerSubject, race: Race) -> tuple[Advice, ...]:
    low = race.timeout.low
    names = {end.client for end in race.timeout.ends if end.client}
    return (
        Advice(
            "Raise its idle timeout",
            f"{server_settings(subject.processes)}; it must be longer than its clients keep idle "
            "connections",
            "each idle connection keeps a descriptor and some memory for longer",
            f"no request is lost any more: {trace_command(race.listener.port, 60)}",
        ),
        Advice(
            f"Or let the clients give up idle connections well before {pause(low)}",
            client_settings(sorted(names), low),
            "fewer requests find an open connection",
        ),
        Advice(
            "Let clients repeat a request that may be repeated (GET) once, on a new connection",
            "it hides what the two settings leave; a POST must not be repeated",
        ),
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "closes"),
    (LEAST, REUSE),
)
