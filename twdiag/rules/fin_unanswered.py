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

from twdiag.census.columns import ones
from twdiag.census.table import TIMER_RETRANSMIT, TIMER_ZERO_WINDOW
from twdiag.model import (
    AddressSubject,
    Advice,
    Confidence,
    Finding,
    HostSubject,
    Place,
    PortSubject,
    Rule,
    Severity,
    Subject,
)
from twdiag.rules import manual
from twdiag.tcp import State
from twdiag.wording import count, share, ss_address

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "fin-unanswered"
MANUAL = __doc__ or ""
_SHARE_NOTICE, _SHARE_WARNING = 0.05, 0.25
_WAITING = (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)
_MOST = "net.ipv4.tcp_max_orphans"


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield a finding for each silent destination or service, and one for orphans near their limit.

    A client that vanishes takes its few connections with it, and on the internet that is normal:
    the peers of a service are judged together, as a share of its connections.
    """
    table = snapshot.sockets
    by_peer: dict[int, list[int]] = defaultdict(list)
    by_service: dict[int, list[int]] = defaultdict(list)
    full: dict[int, list[int]] = defaultdict(list)
    for row in table.rows_in(*_WAITING):
        resent = table.retrans[row] >= limits["fin-unanswered-retries"]
        if table.timer[row] == TIMER_ZERO_WINDOW:
            full[table.dst[row]].append(row)
        elif table.timer[row] == TIMER_RETRANSMIT and resent:
            if snapshot.flows.client_side[row]:
                by_peer[table.dst[row]].append(row)
            else:
                by_service[table.sport[row]].append(row)
    alive = _established(snapshot, table.dst) if by_peer else Counter()
    for peer, rows in by_peer.items():
        # Some connections of a busy peer always vanish; it is only silent if many of them do.
        if len(rows) >= max(limits["fin-unanswered"], alive[peer] / 4):
            others = ones(snapshot.flows.client_side) - len(rows)
            serious = len(rows) >= _SHARE_WARNING * (len(rows) + others)
            severity = Severity.WARNING if serious else Severity.NOTICE
            yield _silent_peer(snapshot, peer, rows, severity)
    served = _established(snapshot, table.sport) if by_service else Counter()
    for port, rows in by_service.items():
        ratio = len(rows) / (len(rows) + served[port])
        if len(rows) >= limits["fin-unanswered-service"] and ratio >= _SHARE_NOTICE:
            yield _silent_clients(snapshot, port, rows, ratio)
    for peer, rows in full.items():
        if len(rows) >= limits["fin-unanswered"]:
            yield _no_room(snapshot, peer, rows)
    yield from _orphans(snapshot, limits)


def _established(snapshot: Snapshot, column: array[int]) -> Counter[int]:
    return Counter(map(column.__getitem__, snapshot.sockets.rows_in(State.ESTABLISHED)))


def _silent_peer(snapshot: Snapshot, peer: int, rows: list[int], severity: Severity) -> Finding:
    address = snapshot.sockets.addresses.text(peer)
    return _finding(
        snapshot,
        rows,
        severity,
        f"{address} does not acknowledge {count(len(rows), 'close')}",
        AddressSubject(address),
        Advice(
            "See whether the peer can be reached",
            f"ping {address}; a new connection to the same port; the firewalls on the way",
            verify=f"no timer:(on,...) with growing retries: ss -tano dst {ss_address(address)}",
        ),
    )


def _silent_clients(snapshot: Snapshot, port: int, rows: list[int], ratio: float) -> Finding:
    table = snapshot.sockets
    peers = len({table.dst[row] for row in rows})
    serious = ratio >= _SHARE_WARNING and peers > 1
    return _finding(
        snapshot,
        rows,
        Severity.WARNING if serious else Severity.NOTICE,
        f"{count(peers, 'client')} of local port {port} do not acknowledge "
        f"{count(len(rows), 'close')}, {share(ratio)} of its connections",
        PortSubject(port),
        Advice(
            "See whether this host's answers reach its clients",
            "the uplink, the firewall and the load balancer in front; a change in the last minutes",
            verify=f"no timer:(on,...) with growing retries: ss -tano sport = :{port}",
        ),
    )


def _no_room(snapshot: Snapshot, peer: int, rows: list[int]) -> Finding:
    address = snapshot.sockets.addresses.text(peer)
    return _finding(
        snapshot,
        rows,
        Severity.NOTICE,
        f"{address} has no room for the last data of {count(len(rows), 'closed connection')} "
        "(zero window)",
        AddressSubject(address),
        Advice(
            "If this lasts, look at the application at the other end",
            "its Recv-Q is full: it reads slowly or not at all",
            verify=f"Send-Q falls: ss -tano dst {ss_address(address)}",
        ),
    )


def _finding(
    snapshot: Snapshot,
    rows: list[int],
    severity: Severity,
    text: str,
    subject: Subject,
    advice: Advice,
) -> Finding:
    table = snapshot.sockets
    states = Counter(State(table.state[row]) for row in rows)
    zero_window = sum(1 for row in rows if table.timer[row] == TIMER_ZERO_WINDOW)
    return Finding(
        NAME,
        severity,
        Confidence.OBSERVED,
        f"{text}: {', '.join(f'{n:,} in {state.name}' for state, n in states.items())}",
        subject,
        {
            "unanswered": len(rows),
            "peers": len({table.dst[row] for row in rows}),
            "zero_window": zero_window,
            "retransmissions": max(table.retrans[row] for row in rows),
            "send_q": sum(table.send_q[row] for row in rows),
            "states": [state.name for state in states],
            "state_sockets": list(states.values()),
            "orphans": sum(1 for row in rows if not table.inode[row]),
        },
        manual.why(MANUAL),
        (advice,),
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
