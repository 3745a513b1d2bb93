"""Sockets that this host closed get no acknowledgement of their FIN.

What it means:
FIN_WAIT1, CLOSING and LAST_ACK wait for the peer's kernel to acknowledge a FIN. These have sent
it several times in vain, or cannot send it at all because the peer's receive window is zero (data
is still in front of the FIN).

Why it matters:
One peer that does not answer is gone, cut off by a firewall, or stuck with a full receive buffer.
The kernel keeps each orphan for 8 retries, 102 to 205 s by the round-trip time, with all its
unsent data; at tcp_max_orphans (host-wide) it begins to reset them.

What to do:
See whether the peer can be reached at all, and whether a firewall or NAT on the way dropped the
connection's state. With a zero window, look at the application at the other end: it does not
read.

What not to do:
- Do not lower tcp_orphan_retries below what a short outage needs: connections over a lossy path
  are then cut off before their last data is delivered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    Advice,
    Confidence,
    Finding,
    HostSubject,
    Place,
    PortSubject,
    Severity,
)
from twdiag.model.limits import Limit, ratio, sockets
from twdiag.model.sockets import TIMER_RETRANSMIT, TIMER_ZERO_WINDOW
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind, these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import most_first
from twdiag.tcp import State
from twdiag.wording import count, share, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.findings import Subject
    from twdiag.model.limits import Limits
    from twdiag.model.sockets import Socket

NAME = "fin-unanswered"
LEAST = sockets("fin-unanswered", 5, "sockets to one peer whose FIN is not acknowledged")
LEAST_OF_SERVICE = sockets(
    "fin-unanswered-service", 20, "such sockets of one local port, all clients together"
)
RETRIES = Limit(
    "fin-unanswered-retries", 2, "retries", "retransmissions before a FIN is unanswered", 1
)
ORPHANS_WARNING = ratio("orphans-warning", 0.7, "orphans as a share of tcp_max_orphans")
ORPHANS_CRITICAL = ratio("orphans-critical", 0.9, "orphans as a share of tcp_max_orphans")
_SHARE_NOTICE, _SHARE_WARNING = 0.05, 0.25
_WAITING = (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)
_MOST = "net.ipv4.tcp_max_orphans"


class _Silence(NamedTuple):
    """Sockets whose FIN goes unanswered, and what to say of them."""

    severity: Severity
    text: str
    subject: Subject
    advice: Advice
    sockets: tuple[Socket, ...] = ()


def select(view: View, limits: Limits) -> Iterator[Group[_Silence | None]]:
    """Yield each silent destination or service, and None for orphans near their limit.

    A client that vanishes takes its few connections with it, and on the internet that is normal:
    the peers of a service are judged together, as a share of its connections.
    """
    by_peer: defaultdict[str, list[Socket]] = defaultdict(list)
    by_service: defaultdict[int, list[Socket]] = defaultdict(list)
    full: defaultdict[str, list[Socket]] = defaultdict(list)
    for socket in view.sockets(*_WAITING):
        if socket.timer == TIMER_ZERO_WINDOW:
            full[socket.remote_address].append(socket)
        elif socket.timer == TIMER_RETRANSMIT and socket.retrans >= limits[RETRIES]:
            if view.is_client(socket):
                by_peer[socket.remote_address].append(socket)
            else:
                by_service[socket.local_port].append(socket)
    yield from map(Group, _silent_peers(view, limits, by_peer))
    yield from map(Group, _silent_clients(view, limits, by_service))
    for peer, found in most_first(full):
        if len(found) >= limits[LEAST]:
            yield Group(_no_room(peer, found))
    if _orphan_ratio(view) >= limits[ORPHANS_WARNING]:
        yield Group(None)


def tell(view: View, limits: Limits, group: Group[_Silence | None]) -> Iterator[Finding]:
    """Yield the finding on a group."""
    if group.about is None:
        yield _orphans(view, limits)
        return
    severity, text, subject, advice, found = group.about
    states = Counter(socket.state for socket in found)
    yield Finding(
        severity,
        Confidence.OBSERVED,
        f"{text}: {', '.join(f'{n:,} in {state.name}' for state, n in states.items())}",
        subject,
        {
            facts.UNANSWERED: len(found),
            facts.PEERS: len({socket.remote_address for socket in found}),
            facts.ZERO_WINDOW: sum(1 for s in found if s.timer == TIMER_ZERO_WINDOW),
            facts.RETRANSMISSIONS: max(socket.retrans for socket in found),
            facts.SEND_Q: sum(socket.send_q for socket in found),
            facts.STATES: [state.name for state in states],
            facts.STATE_SOCKETS: list(states.values()),
            facts.ORPHANS: sum(1 for socket in found if not socket.inode),
        },
        (advice,),
        Place.of(states.most_common(1)[0][0]),
    )


def _silent_peers(
    view: View, limits: Limits, by_peer: dict[str, list[Socket]]
) -> Iterator[_Silence]:
    alive: Counter[str] = Counter()
    for destination in view.destinations(1) if by_peer else ():
        alive[destination.address] += destination.tally.states.get(State.ESTABLISHED, 0)
    clients = view.census.by_client.sockets
    for address, found in most_first(by_peer):
        # Some connections of a busy peer always vanish; it is only silent if many of them do.
        if len(found) < max(limits[LEAST], alive[address] / 4):
            continue
        serious = len(found) >= _SHARE_WARNING * clients
        yield _Silence(
            Severity.WARNING if serious else Severity.NOTICE,
            f"{address} does not acknowledge {count(len(found), 'close')}",
            AddressSubject(address),
            Advice(
                "See whether the peer can be reached",
                f"a new connection to the same port, the firewalls on the way: ping {address}",
                verify=f"no growing retries in timer:(on,...): ss -tano dst {ss_address(address)}",
            ),
            tuple(found),
        )


def _silent_clients(
    view: View, limits: Limits, by_service: dict[int, list[Socket]]
) -> Iterator[_Silence]:
    served: Counter[int] = Counter()
    for server in view.servers:
        served[server.listener.port] += server.tally.states.get(State.ESTABLISHED, 0)
    for port, found in by_service.items():
        silent = len(found) / (len(found) + served[port])
        if len(found) < limits[LEAST_OF_SERVICE] or silent < _SHARE_NOTICE:
            continue
        peers = len({socket.remote_address for socket in found})
        serious = silent >= _SHARE_WARNING and peers > 1
        yield _Silence(
            Severity.WARNING if serious else Severity.NOTICE,
            f"{count(peers, 'client')} of local port {port} do not acknowledge "
            f"{count(len(found), 'close')}, {share(silent)} of its connections",
            PortSubject(port),
            Advice(
                "See whether this host's answers reach its clients",
                "the uplink, the firewall and the load balancer in front; a change in the last "
                "minutes",
                verify=f"no timer:(on,...) with growing retries: ss -tano sport = :{port}",
            ),
            tuple(found),
        )


def _no_room(address: str, found: list[Socket]) -> _Silence:
    return _Silence(
        Severity.NOTICE,
        f"{address} has no room for the last data of {count(len(found), 'closed connection')} "
        "(zero window)",
        AddressSubject(address),
        Advice(
            "If this lasts, look at the application at the other end",
            "its Recv-Q is full, so it reads slowly or not at all",
            verify=f"Send-Q falls: ss -tano dst {ss_address(address)}",
        ),
        tuple(found),
    )


def _orphan_ratio(view: View) -> float:
    """Return the host's orphans as a share of tcp_max_orphans; both are host-wide."""
    orphans, most = view.sockstat("TCP.orphan"), view.sysctl(_MOST)
    return orphans / most if orphans is not None and most else 0.0


def _orphans(view: View, limits: Limits) -> Finding:
    orphans, most = view.sockstat("TCP.orphan") or 0, view.sysctl(_MOST) or 0
    used = _orphan_ratio(view)
    return Finding(
        Severity.CRITICAL if used >= limits[ORPHANS_CRITICAL] else Severity.WARNING,
        Confidence.OBSERVED,
        f"{orphans:,} of {count(most, 'orphaned socket')} allowed ({share(used)})",
        HostSubject(),
        {facts.ORPHANS: orphans, facts.LIMIT: most, facts.USED_RATIO: round(used, 4)},
        (
            Advice(
                "Find the peers that do not answer",
                "ss -tano state fin-wait-1 state last-ack state closing",
            ),
            Advice(
                "Raise the limit if memory allows",
                f"sysctl -w {_MOST}={2 * most}",
                "an orphan costs up to 64 KiB of kernel memory that cannot be swapped",
            ),
        ),
        Place.of(State.FIN_WAIT1),
    )


def rows(view: View, limits: Limits, group: Group[_Silence | None]) -> RowsBehind:
    """Return the sockets whose FIN is unanswered, or all orphans."""
    if group.about is not None:
        return these(group.about.sockets)
    return RowsBehind(lambda socket: socket.state in _WAITING and not socket.inode)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "timers"),
    (LEAST, LEAST_OF_SERVICE, RETRIES, ORPHANS_WARNING, ORPHANS_CRITICAL),
    rows,
)
