"""Connection attempts to one destination get no answer.

What it means:
SYN_SENT with retransmissions: this host sent a SYN, and neither a SYN+ACK nor a refusal came back
for at least a second. A firewall drops the SYNs or the answers, the host is down, its accept
queue is full, or a NAT on the way has no port left.

Why it matters:
Each attempt blocks its caller until connect() gives up, about 130 s with tcp_syn_retries at 6,
and holds a local port and a descriptor meanwhile.

What to do:
Try the destination from this host and from its own host; look at the firewall and at the accept
queue there. If some attempts pass and others do not, no firewall is to blame: the accept queue
overflows now and then, or a NAT on the way has no port left, or its conntrack table no room. A NAT
gateway of a cloud shows that in its own metrics, and nowhere else.

What not to do:
- Do not raise timeouts: nothing comes back.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import (
    Advice,
    Confidence,
    DestinationSubject,
    Finding,
    HostSubject,
    Place,
    Severity,
)
from twdiag.model.limits import Limit, ratio, sockets
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import most_first, names_of
from twdiag.tcp import State
from twdiag.wording import count, endpoint, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.model.sockets import Socket
    from twdiag.rules.behind import RowsBehind

NAME = "syn-unanswered"
LEAST = sockets("syn-unanswered", 5, "retransmitted SYNs to one destination")
# 5 to 8 s since Linux 6.5, which repeats the first four after 1 s each; 31 s before.
LONG = Limit(
    "syn-unanswered-retries", 5, "retries", "retransmissions before fewer SYNs are told too", 1
)
SHARE = ratio(
    "syn-unanswered-share", 0.05, "such SYNs as a share of all connections of this host's clients"
)
EVERYWHERE = sockets("syn-unanswered-destinations", 50, "destinations that do not answer SYNs")
_FEW = 8


class _Attempts(NamedTuple):
    """Unanswered attempts, and the open connections to the same place.

    With many `destinations` they are told as one.
    """

    sockets: list[Socket]
    destinations: int
    alive: int = 0


def select(view: View, limits: Limits) -> Iterator[Group[_Attempts]]:
    """Yield each destination that does not answer, or all together if there are very many."""
    silent = [socket for socket in view.sockets(State.SYN_SENT) if socket.retrans]
    groups: defaultdict[tuple[str, int], list[Socket]] = defaultdict(list)
    for socket in silent:
        groups[socket.remote_address, socket.remote_port].append(socket)
    if len(groups) >= limits[EVERYWHERE]:
        yield Group(_Attempts(silent, len(groups)), tuple(s.inode for s in silent[:_FEW]))
        return
    for end, found in most_first(groups):
        if len(found) >= limits[LEAST] or _is_hanging(view, limits, found):
            about = _Attempts(found, 1, _open_to(view, *end))
            yield Group(about, tuple(s.inode for s in found[:_FEW]))


def _is_hanging(view: View, limits: Limits, found: list[Socket]) -> bool:
    """Return whether attempts have lasted that are a good part of what the clients here do.

    A crawler always meets dead hosts; a program with two connections waits for this one.
    """
    long = sum(1 for socket in found if socket.retrans >= limits[LONG])
    states = view.census.by_client.states
    done = states.get(State.ESTABLISHED, 0) + states.get(State.SYN_SENT, 0)
    return long > 0 and long >= limits[SHARE] * done


def _open_to(view: View, address: str, port: int) -> int:
    """Return how many connections to a destination are open."""
    return sum(
        destination.tally.states.get(State.ESTABLISHED, 0)
        for destination in view.destinations(1)
        if (destination.address, destination.port) == (address, port)
    )


def tell(view: View, limits: Limits, group: Group[_Attempts]) -> Iterator[Finding]:
    """Yield one finding for each group."""
    found, destinations, alive = group.about
    owners = view.owners_of(group.inodes)
    # Of many attempts some were looked up: they speak for all where they have one owner.
    by = f" by {owners[0].name}" if len(names_of(owners)) == 1 else ""
    if destinations > 1:
        yield _everywhere(view, group.about, by, names_of(owners))
        return
    address, port = found[0].remote_address, found[0].remote_port
    others = f"; {count(alive, 'connection')} to it {'is' if alive == 1 else 'are'} open"
    yield Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{endpoint(address, port)} does not answer {count(len(found), 'connection attempt')}{by}"
        + (others if alive else ""),
        DestinationSubject(None, address, port),
        {
            facts.SYN_SENT: len(found),
            facts.RETRANSMISSIONS: max(socket.retrans for socket in found),
            facts.ALIVE: alive,
            facts.PROCESSES: names_of(owners),
        },
        (
            *(_PARTLY if alive else ()),
            Advice(
                "Find out who drops the SYN",
                "see here and there whether the SYN arrives and the SYN+ACK comes back: "
                f"tcpdump -ni any host {address} and port {port}",
                verify=f"no row: ss -tan state syn-sent dst {ss_address(address)}",
            ),
            *(() if alive else _FIREWALLS),
            Advice(
                "Look at the accept queue of the server",
                f"on that host, look for a Recv-Q above its Send-Q: ss -ltn sport = :{port}",
            ),
        ),
        Place.of(State.SYN_SENT),
    )


_FIREWALLS = (
    Advice(
        "Look at the firewalls from here to there",
        "in iptables -nvL the counter of the rule or policy that drops them grows (nft list "
        "ruleset: only where a rule has one); a container's connections pass the FORWARD chain of "
        "its host",
    ),
)
_PARTLY = (
    Advice(
        "Look for what lets only some connections through",
        "the server's accept queue, or a NAT on the way without a free port: the metrics of the "
        "gateway, or twdiag on the router",
    ),
)


_NOWHERE = Advice(
    "See whether this host gets out at all",
    "a firewall for outgoing connections, the default route, the NAT in front",
    verify="fewer rows: ss -tan state syn-sent",
)
_GONE = Advice(
    "Look where the program has these addresses from",
    "a list of targets or a service discovery has hosts that are gone; or a firewall lets through "
    "the others alone",
    verify="fewer rows: ss -tan state syn-sent",
)


def _everywhere(view: View, attempts: _Attempts, by: str, processes: list[str]) -> Finding:
    found, destinations, _ = attempts
    reached = view.census.by_client.states.get(State.ESTABLISHED, 0)
    return Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{count(len(found), 'connection attempt')}{by} to {count(destinations, 'destination')} "
        "get no answer",
        HostSubject(),
        {
            facts.SYN_SENT: len(found),
            facts.DESTINATIONS: destinations,
            facts.RETRANSMISSIONS: max(socket.retrans for socket in found),
            facts.ALIVE: reached,
            facts.PROCESSES: processes,
        },
        # What is open to others came past the firewall and the NAT.
        (_GONE, _NOWHERE) if reached else (_NOWHERE, _GONE),
        Place.of(State.SYN_SENT),
    )


def rows(view: View, limits: Limits, group: Group[_Attempts]) -> RowsBehind:
    """Return the attempts."""
    return these(group.about.sockets)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "timers"),
    (LEAST, LONG, SHARE, EVERYWHERE),
    rows,
)
