"""An application that binds before it connects is using up the local ports of one address.

What it means:
bind(address, 0) before connect() takes a port of the local address for all destinations at once,
because the kernel does not know the destination yet. connect() alone shares a local port between
destinations. The kernel hands out the two kinds from opposite ends: connect() takes ports of the
parity of the range's low end first, bind(0) the other parity. Here more than half of the ports
are in use, although no single destination has used up half of them.

Why it matters:
When every port of the range is bound, the next bind(0) on this address fails with EADDRINUSE,
even towards a destination that nobody is connected to, and plain connect() loses those ports too.

What to do:
Set IP_BIND_ADDRESS_NO_PORT on the socket before bind(), or do not bind at all. HAProxy's
`source`, nginx's proxy_bind and many HTTP clients' "local address" options bind.

What not to do:
- Do not add destinations to spread the load: the bound ports are shared by all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import (
    AddressSubject,
    Advice,
    Confidence,
    Finding,
    Place,
    Rule,
    Severity,
)
from twdiag.rules import manual
from twdiag.tcp import State
from twdiag.wording import count, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "bound-ports-running-out"
MANUAL = __doc__ or ""


def _ports_by_source(snapshot: Snapshot) -> dict[int, set[int]]:
    """Return the distinct local ports in use on each source address, bound sockets included."""
    table, flows = snapshot.sockets, snapshot.flows
    ports = flows.client_ports()
    for row in table.bound:
        if table.sport[row] in flows.budget:
            ports.setdefault(table.src[row], set()).add(table.sport[row])
    return ports


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each source address whose bound ports run out."""
    flows = snapshot.flows
    # Bound ports are taken from the budget of connect(); here they count as used instead.
    total = flows.budget.size - len(flows.budget.reserved)
    least = limits["bound-ports-notice"] * total
    if len(snapshot.sockets) < least:
        return
    fullest = flows.fullest_by_source()
    for source, ports in _ports_by_source(snapshot).items():
        # Towards each destination connect() uses half of the ports, those of one parity, before it
        # touches the others.  With no destination above half, more than that has been bound.
        if len(ports) >= least and fullest.get(source, 0) <= total / 2:
            other_parity = sum(1 for port in ports if (port - flows.budget.low) % 2)
            yield _finding(snapshot, limits, source, len(ports), total, other_parity)


def _finding(
    snapshot: Snapshot, limits: Limits, source: int, used: int, total: int, other_parity: int
) -> Finding:
    address = snapshot.sockets.addresses.text(source)
    serious = used >= limits["bound-ports-warning"] * total
    severity = Severity.WARNING if serious else Severity.NOTICE
    none_left = "; bind() to any port fails now" if used >= total else ""
    return Finding(
        NAME,
        Severity.CRITICAL if none_left else severity,
        Confidence.INFERRED,
        f"{used:,} of {count(total, 'local port')} ({share(used / total)}) on {address} in use, by "
        f"sockets bound before connect(){none_left}",
        AddressSubject(address),
        {
            "used": used,
            "ports": total,
            "used_ratio": round(used / total, 4),
            "bind_parity_ports": other_parity,
            "range_low": snapshot.flows.budget.low,
            "range_high": snapshot.flows.budget.high,
        },
        manual.why(MANUAL),
        (
            Advice(
                "Let the application choose the address without choosing a port",
                "setsockopt(IP_BIND_ADDRESS_NO_PORT) before bind(address, 0), Linux 4.2 or later",
                "none: the port is chosen at connect(), per destination",
                "the ports in use fall below the number of connections",
            ),
            Advice(
                "Or give the application more source addresses",
                "each local address has its own set of ports for bind()",
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(State.SYN_SENT)._replace(next="bind(), then connect(), needs a port"),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "net.ipv4.ip_local_port_range"))
