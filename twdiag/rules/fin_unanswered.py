"""Sockets that this host closed get no acknowledgement of their FIN.

What it means:
FIN_WAIT1, CLOSING and LAST_ACK wait for the peer's kernel to acknowledge a FIN. These have sent
it several times in vain, or may not send at all because the peer's receive window is zero (data
is still in front of the FIN).

Why it matters:
One peer that does not answer is gone, cut off by a firewall, or stuck with a full receive buffer.
The kernel keeps each orphan for 8 retries, about 108 s, with all its unsent data; at
tcp_max_orphans (host-wide) it begins to reset them.

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

from twdiag.model import (
    AddressSubject,
    Advice,
    Confidence,
    Finding,
    HostSubject,
    Place,
    Rule,
    Severity,
)
from twdiag.rules import manual
from twdiag.table import TIMER_RETRANSMIT, TIMER_ZERO_WINDOW
from twdiag.tcp import State
from twdiag.wording import count, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.limits import Limits
    from twdiag.model import Snapshot

NAME = "fin-unanswered"
MANUAL = __doc__ or ""
_WAITING = (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)
_MOST = "net.ipv4.tcp_max_orphans"


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each silent peer, and one for orphans near their limit."""
    table = snapshot.sockets
    stuck: dict[int, list[int]] = defaultdict(list)
    for row in table.rows_in(*_WAITING):
        resent = (
            table.timer[row] == TIMER_RETRANSMIT
            and table.retrans[row] >= limits["fin-unanswered-retries"]
        )
        if resent or table.timer[row] == TIMER_ZERO_WINDOW:
            stuck[table.dst[row]].append(row)
    alive = _established_peers(snapshot, stuck)
    for peer, rows in stuck.items():
        # Some of a busy peer's connections always vanish with their phones and laptops; a peer is
        # only called silent if that is a good part of all there is to it.
        if len(rows) >= max(limits["fin-unanswered"], alive[peer] / 4):
            yield _finding(snapshot, peer, rows)
    yield from _orphans(snapshot, limits)


def _established_peers(snapshot: Snapshot, peers: dict[int, list[int]]) -> Counter[int]:
    table = snapshot.sockets
    if not peers:
        return Counter()
    rows = table.rows_in(State.ESTABLISHED)
    return Counter(peer for peer in map(table.dst.__getitem__, rows) if peer in peers)


def _finding(snapshot: Snapshot, peer: int, rows: list[int]) -> Finding:
    table = snapshot.sockets
    address = table.addresses.text(peer)
    closed = sum(1 for row in rows if table.timer[row] == TIMER_ZERO_WINDOW)
    states = Counter(State(table.state[row]) for row in rows)
    unsent = sum(table.send_q[row] for row in rows)
    why = " (zero window)" if closed == len(rows) else ""
    return Finding(
        NAME,
        Severity.WARNING,
        Confidence.OBSERVED,
        f"{address} does not acknowledge {count(len(rows), 'close')}{why}: "
        f"{', '.join(f'{n:,} in {s.name}' for s, n in states.items())}",
        AddressSubject(address),
        {
            "unanswered": len(rows),
            "zero_window": closed,
            "retransmissions": max(table.retrans[row] for row in rows),
            "send_q": unsent,
            "states": [state.name for state in states],
            "orphans": sum(1 for row in rows if not table.inode[row]),
        },
        manual.why(MANUAL),
        (
            Advice(
                "See whether the peer can be reached",
                f"ping {address}; a new connection to the same port; the firewalls on the way",
                verify=f"ss -tano dst {address}: no timer:(on,...) with growing retries",
            ),
            Advice(
                "With a zero window, look at the application there: it does not read",
                "its Recv-Q is full",
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(states.most_common(1)[0][0]),
        snapshot.netns,
    )


def _orphans(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield a finding where the host's orphans near tcp_max_orphans; both are host-wide."""
    orphans, most = snapshot.sockstat.get("TCP.orphan"), snapshot.sysctl(_MOST)
    if orphans is None or not most or orphans < limits["orphans-warning"] * most:
        return
    ratio = orphans / most
    yield Finding(
        NAME,
        Severity.CRITICAL if ratio >= limits["orphans-critical"] else Severity.WARNING,
        Confidence.OBSERVED,
        f"{orphans:,} of {count(most, 'orphaned socket')} allowed ({share(ratio)})",
        HostSubject(),
        {"orphans": orphans, "limit": most, "used_ratio": round(ratio, 4)},
        manual.why(MANUAL),
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
        manual.do_not(MANUAL),
        Place.of(State.FIN_WAIT1),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "timers"))
