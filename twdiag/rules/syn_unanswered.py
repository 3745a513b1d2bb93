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

from twdiag.model import (
    Advice,
    Confidence,
    DestinationSubject,
    Finding,
    HostSubject,
    Place,
    Rule,
    Severity,
)
from twdiag.rules import manual
from twdiag.tcp import State
from twdiag.wording import count, endpoint, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "syn-unanswered"
MANUAL = __doc__ or ""


def _groups(snapshot: Snapshot, limits: Limits) -> dict[tuple[int, int], list[int]]:
    table = snapshot.sockets
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in table.rows_in(State.SYN_SENT):
        if table.retrans[row]:
            groups[table.dst[row], table.dport[row]].append(row)
    return {key: rows for key, rows in groups.items() if len(rows) >= limits["syn-unanswered"]}


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of the attempts."""
    for rows in _groups(snapshot, limits).values():
        yield from (snapshot.sockets.inode[row] for row in rows[:8])


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each destination that does not answer, or one for very many of them."""
    table = snapshot.sockets
    silent = [row for row in table.rows_in(State.SYN_SENT) if table.retrans[row]]
    places = {(table.dst[row], table.dport[row]) for row in silent}
    if len(places) >= limits["syn-unanswered-destinations"]:
        yield _everywhere(snapshot, silent, len(places))
        return
    for (number, port), rows in _groups(snapshot, limits).items():
        address = table.addresses.text(number)
        owners = {
            owner.pid: owner for row in rows for owner in snapshot.owners.get(table.inode[row], ())
        }
        by = f" by {next(iter(owners.values())).name}" if owners else ""
        yield Finding(
            NAME,
            Severity.NOTICE,
            Confidence.OBSERVED,
            f"{endpoint(address, port)} does not answer "
            f"{count(len(rows), 'connection attempt')}{by}",
            DestinationSubject(None, address, port),
            {
                "syn_sent": len(rows),
                "retransmissions": max(table.retrans[row] for row in rows),
                "processes": [owner.name for owner in owners.values()],
            },
            manual.why(MANUAL),
            (
                Advice(
                    "Find out who drops the SYN",
                    f"tcpdump host {address} and port {port} here and there: does the SYN arrive, "
                    "does the SYN+ACK come back?",
                    verify=f"no row: ss -tan state syn-sent dst {ss_address(address)}",
                ),
                Advice(
                    "Look at the accept queue of the server",
                    f"there: ss -ltn sport = :{port}: is Recv-Q above Send-Q?",
                ),
            ),
            manual.do_not(MANUAL),
            Place.of(State.SYN_SENT),
            snapshot.netns,
        )


def _everywhere(snapshot: Snapshot, silent: list[int], places: int) -> Finding:
    return Finding(
        NAME,
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{count(len(silent), 'connection attempt')} to {count(places, 'destination')} get no "
        "answer",
        HostSubject(),
        {
            "syn_sent": len(silent),
            "destinations": places,
            "retransmissions": max(snapshot.sockets.retrans[row] for row in silent),
        },
        manual.why(MANUAL),
        (
            Advice(
                "See whether this host gets out at all",
                "a firewall for outgoing connections, the default route, the NAT in front",
                verify="fewer rows: ss -tan state syn-sent",
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(State.SYN_SENT),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "timers"), inodes)
