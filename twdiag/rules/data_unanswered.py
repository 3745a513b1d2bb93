"""Open connections repeat their data to a peer that does not acknowledge it.

What it means:
These ESTABLISHED connections sent data, and the peer's kernel has not acknowledged it although it
was sent again several times, for 12 s or more. That takes no help of the peer's program: the peer
is gone (a crash, a failover, a pod that was deleted), it is cut off, or a NAT, a firewall or a
load balancer on the way has forgotten the connection and drops its segments.

Why it matters:
Whoever waits for an answer on such a connection waits until the kernel gives it up: after 15
retries (tcp_retries2), 924 s or more, with ETIMEDOUT. A pool with one dead connection hangs each
request that is given this one, while a new connection may work at once.

What to do:
Try a new connection to the same place. Where that works, the old ones are dead: end them, by a
restart of the process if nothing else does, and set a limit so that they end sooner the next time
(TCP_USER_TIMEOUT, a timeout for each request). Where it does not, the peer or the way to it is
down.

What not to do:
- Do not rely on SO_KEEPALIVE alone: no probe is sent while data is unacknowledged.
- Do not raise timeouts: the peer does not know these connections any more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from twdiag.census.intake import REPEATED
from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    Advice,
    Confidence,
    Finding,
    Place,
    PortSubject,
    Severity,
)
from twdiag.model.limits import Limit, ratio, sockets
from twdiag.model.sockets import TIMER_RETRANSMIT
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind, these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import most_first, names_of
from twdiag.tcp import State
from twdiag.wording import count, share, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.findings import Subject
    from twdiag.model.limits import Limits
    from twdiag.model.sockets import Socket

NAME: Final = "data-unanswered"
# The timer begins at 200 ms and doubles: after 6 retries 12.6 s have passed.
RETRIES: Final = Limit(
    "data-unanswered-retries", 6, "retries", "retransmissions before data is unanswered", REPEATED
)
LEAST: Final = sockets(
    "data-unanswered", 5, "connections to one peer whose data is not acknowledged"
)
LEAST_OF_SERVICE: Final = sockets(
    "data-unanswered-service", 20, "such connections of one local port, all clients together"
)
SHARE: Final = ratio(
    "data-unanswered-share", 0.05, "such connections as a share of all of the client or the service"
)
_SHARE_WARNING: Final = 0.25
_FEW: Final = 8
_NEXT: Final = "the peer acknowledges the data, or this host's kernel gives up (ETIMEDOUT)"


class _Silence(NamedTuple):
    """Connections whose data goes unanswered; `alive` are the others of that peer or service."""

    severity: Severity
    subject: Subject
    sockets: tuple[Socket, ...]
    alive: int


def select(view: View, limits: Limits) -> Iterator[Group[_Silence]]:
    """Yield each silent peer of this host's clients, and each service whose clients are silent.

    On the internet some clients always vanish, and a crawler always meets dead hosts: a few count
    only where they are a good share.
    """
    by_peer: defaultdict[str, list[Socket]] = defaultdict(list)
    by_service: defaultdict[int, list[Socket]] = defaultdict(list)
    for socket in view.sockets(State.ESTABLISHED):
        if socket.timer == TIMER_RETRANSMIT and socket.retrans >= limits[RETRIES]:
            if view.is_client(socket):
                by_peer[socket.remote_address].append(socket)
            else:
                by_service[socket.local_port].append(socket)
    found = (*_silent_peers(view, limits, by_peer), *_silent_clients(view, limits, by_service))
    for silence in found:
        yield Group(silence, tuple(s.inode for s in silence.sockets[:_FEW] if s.inode))


def _silent_peers(
    view: View, limits: Limits, by_peer: dict[str, list[Socket]]
) -> Iterator[_Silence]:
    open_to: Counter[str] = Counter()
    for destination in view.destinations(1) if by_peer else ():
        open_to[destination.address] += destination.tally.states.get(State.ESTABLISHED, 0)
    clients = view.census.by_client.states.get(State.ESTABLISHED, 0)
    for address, found in most_first(by_peer):
        silent = len(found)
        alive = max(0, open_to[address] - silent)
        several = silent >= limits[LEAST]
        if silent < alive / 4 or not (several or silent >= limits[SHARE] * clients):
            continue
        serious = several and silent >= _SHARE_WARNING * clients
        severity = Severity.WARNING if serious else Severity.NOTICE
        yield _Silence(severity, AddressSubject(address), tuple(found), alive)


def _silent_clients(
    view: View, limits: Limits, by_service: dict[int, list[Socket]]
) -> Iterator[_Silence]:
    served: Counter[int] = Counter()
    for server in view.servers:
        served[server.listener.port] += server.tally.states.get(State.ESTABLISHED, 0)
    for port, found in by_service.items():
        silent = len(found)
        if silent < limits[LEAST_OF_SERVICE] or silent < limits[SHARE] * served[port]:
            continue
        peers = len({socket.remote_address for socket in found})
        serious = peers > 1 and silent >= _SHARE_WARNING * served[port]
        severity = Severity.WARNING if serious else Severity.NOTICE
        alive = max(0, served[port] - silent)
        yield _Silence(severity, PortSubject(port), tuple(found), alive)


def tell(view: View, limits: Limits, group: Group[_Silence]) -> Iterator[Finding]:
    """Yield the finding on a peer or a service."""
    severity, subject, found, alive = group.about
    owners = view.owners_of(group.inodes)
    yield Finding(
        severity,
        Confidence.OBSERVED,
        _summary(group.about, owners[0].name if owners else ""),
        subject,
        {
            facts.UNANSWERED: len(found),
            facts.PEERS: len({socket.remote_address for socket in found}),
            facts.RETRANSMISSIONS: max(socket.retrans for socket in found),
            facts.SEND_Q: sum(socket.send_q for socket in found),
            facts.ALIVE: alive,
            facts.PROCESSES: names_of(owners),
        },
        _of_service(subject) if isinstance(subject, PortSubject) else _of_peer(group.about),
        Place.of(State.ESTABLISHED)._replace(next=_NEXT),
    )


def _summary(silence: _Silence, owner: str) -> str:
    found = silence.sockets
    sent = f"sent again {_range([socket.retrans for socket in found])} times"
    if isinstance(silence.subject, PortSubject):
        clients = count(len({socket.remote_address for socket in found}), "client")
        part = share(len(found) / (len(found) + silence.alive))
        return (
            f"{clients} of local port {silence.subject.port} do not acknowledge the data of "
            f"{count(len(found), 'connection')}, {part} of all: {sent}"
        )
    by = f" of {owner}" if owner else ""
    others = f"; {silence.alive:,} others to it are answered" if silence.alive else ""
    return (
        f"{found[0].remote_address} does not acknowledge the data of "
        f"{count(len(found), 'connection')}{by}: {sent}{others}"
    )


def _range(numbers: list[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _of_peer(silence: _Silence) -> tuple[Advice, ...]:
    address, port = silence.sockets[0].remote_address, silence.sockets[0].remote_port
    return (
        Advice(
            "See whether a new connection works",
            "if it does, the peer was started anew, or something on the way (NAT, firewall, "
            f"balancer) has forgotten the old ones: nc -vz -w 3 {address} {port}",
            verify=f"no timer:(on,...) with growing retries: ss -tano dst {ss_address(address)}",
        ),
        Advice(
            "If it works, restart the client, whose old connections are dead",
            "then let it give up sooner, by TCP_USER_TIMEOUT or a timeout for each request",
            "its other connections end too",
        ),
        Advice(
            "For all programs of the host, lower net.ipv4.tcp_retries2",
            "as shipped it is 15, 924 s or more; 8 gives a connection up after 100 s or more",
            "an outage longer than that no longer heals by itself",
        ),
    )


def _of_service(subject: PortSubject) -> tuple[Advice, ...]:
    return (
        Advice(
            "See whether this host's answers reach its clients",
            "the uplink, the firewall and the load balancer in front; a change in the last minutes",
            verify=f"no timer:(on,...) with growing retries: ss -tano sport = :{subject.port}",
        ),
    )


def rows(view: View, limits: Limits, group: Group[_Silence]) -> RowsBehind:
    """Return the connections whose data is unanswered."""
    return these(group.about.sockets)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "timers"),
    (LEAST, LEAST_OF_SERVICE, RETRIES, SHARE),
    rows,
)
