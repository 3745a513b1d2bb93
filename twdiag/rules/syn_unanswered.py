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
queue there. If some attempts pass and others do not, look for a full NAT or conntrack table.

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
from twdiag.model.limits import sockets
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import names_of
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
EVERYWHERE = sockets("syn-unanswered-destinations", 50, "destinations that do not answer SYNs")
_FEW = 8


class _Attempts(NamedTuple):
    """Unanswered attempts; with many `destinations` they are told as one."""

    sockets: list[Socket]
    destinations: int


def select(view: View, limits: Limits) -> Iterator[Group[_Attempts]]:
    """Yield each destination that does not answer, or all together if there are very many."""
    silent = [socket for socket in view.sockets(State.SYN_SENT) if socket.retrans]
    groups: defaultdict[tuple[str, int], list[Socket]] = defaultdict(list)
    for socket in silent:
        groups[socket.remote_address, socket.remote_port].append(socket)
    if len(groups) >= limits[EVERYWHERE]:
        yield Group(_Attempts(silent, len(groups)))
        return
    for found in groups.values():
        if len(found) >= limits[LEAST]:
            yield Group(_Attempts(found, 1), tuple(s.inode for s in found[:_FEW]))


def tell(view: View, limits: Limits, group: Group[_Attempts]) -> Iterator[Finding]:
    """Yield one finding for each group."""
    found, destinations = group.about
    if destinations > 1:
        yield _everywhere(found, destinations)
        return
    address, port = found[0].remote_address, found[0].remote_port
    owners = view.owners_of(group.inodes)
    by = f" by {owners[0].name}" if owners else ""
    yield Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{endpoint(address, port)} does not answer {count(len(found), 'connection attempt')}{by}",
        DestinationSubject(None, address, port),
        {
            facts.SYN_SENT: len(found),
            facts.RETRANSMISSIONS: max(socket.retrans for socket in found),
            facts.PROCESSES: names_of(owners),
        },
        (
            Advice(
                "Find out who drops the SYN",
                "here and there: does the SYN arrive, does the SYN+ACK come back? "
                f"Capture: tcpdump -ni any host {address} and port {port}",
                verify=f"no row: ss -tan state syn-sent dst {ss_address(address)}",
            ),
            Advice(
                "Look at the accept queue of the server",
                f"on that host, look for a Recv-Q above its Send-Q: ss -ltn sport = :{port}",
            ),
        ),
        Place.of(State.SYN_SENT),
    )


def _everywhere(found: list[Socket], destinations: int) -> Finding:
    return Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{count(len(found), 'connection attempt')} to {count(destinations, 'destination')} get no "
        "answer",
        HostSubject(),
        {
            facts.SYN_SENT: len(found),
            facts.DESTINATIONS: destinations,
            facts.RETRANSMISSIONS: max(socket.retrans for socket in found),
        },
        (
            Advice(
                "See whether this host gets out at all",
                "a firewall for outgoing connections, the default route, the NAT in front",
                verify="fewer rows: ss -tan state syn-sent",
            ),
        ),
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
    (LEAST, EVERYWHERE),
    rows,
)
