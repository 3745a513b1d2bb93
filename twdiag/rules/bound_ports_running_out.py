"""An application that binds before it connects is using up the local ports of one address.

What it means:
bind(address, 0) before connect() takes a port of the local address for all destinations at once,
because the kernel does not know the destination yet. connect() alone shares a local port between
destinations. connect() first takes ports of the same parity (odd or even) as the range's low end,
bind(0) those of the other. Here more than half of the ports are in use, although no single
destination has used up half of them.

Why it matters:
When every port of the range is bound, the next bind(0) on this address fails with EADDRINUSE,
even towards a destination that nobody is connected to, and plain connect() loses those ports too.

What to do:
Set IP_BIND_ADDRESS_NO_PORT on the socket before bind(), or do not bind at all. nginx
(proxy_bind, since 1.11.4) and HAProxy (source, since 1.7) set it unless you give them a port. Many
HTTP clients' "local address" options do not.

What not to do:
- Do not add destinations to spread the load: the bound ports are shared by all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import AddressSubject, Advice, Confidence, Finding, Severity
from twdiag.model.limits import ratio
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import most_first
from twdiag.tcp import State
from twdiag.wording import count, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits

NAME = "bound-ports-running-out"
NOTICE = ratio("bound-ports-notice", 0.7, "distinct local ports in use on one source address")
WARNING = ratio("bound-ports-warning", 0.8, "distinct local ports in use on one source address")
_RANGE = "net.ipv4.ip_local_port_range"

_Ports = tuple[str, set[int], int]
"""(source address, its local ports in use, the ports that bind(0) may hand out)"""


def select(view: View, limits: Limits) -> Iterator[Group[_Ports]]:
    """Yield the source addresses whose ports run out though no single destination's do.

    Towards each destination connect() uses half of the ports, those of one parity, before it
    touches the others.  With no destination above half, more than that has been bound.
    """
    # Bound ports are taken from the budget of connect(); here they count as used instead.
    total = view.budget.size - len(view.budget.reserved)
    least = max(1.0, limits[NOTICE] * total)
    if not total or sum(view.census.states.values()) + len(view.bound) < least:
        return
    fullest: dict[str, int] = {}
    for destination in view.destinations(1):
        most = max(fullest.get(destination.source, 0), destination.sockets)
        fullest[destination.source] = most
    for source, ports in most_first(_ports_by_source(view)):
        if len(ports) >= least and fullest.get(source, 0) <= total / 2:
            yield Group((source, ports, total))


def _ports_by_source(view: View) -> dict[str, set[int]]:
    """Return the distinct local ports in use on each source address, bound sockets included."""
    budget = view.budget
    ports = {source: set(found) for source, found in view.census.ports_by_source.items()}
    for socket in view.bound:
        # An explicit bind() may take a reserved port, which bind(0) would not hand out anyway.
        if socket.local_port in budget and socket.local_port not in budget.reserved:
            ports.setdefault(socket.local_address, set()).add(socket.local_port)
    return ports


def tell(view: View, limits: Limits, group: Group[_Ports]) -> Iterator[Finding]:
    """Yield one finding for each source address whose bound ports run out."""
    source, ports, total = group.about
    used = len(ports)
    serious = used >= limits[WARNING] * total
    none_left = "; bind() to any port fails now" if used >= total else ""
    yield Finding(
        Severity.CRITICAL if none_left else Severity.WARNING if serious else Severity.NOTICE,
        Confidence.INFERRED,
        f"{used:,} of {count(total, 'local port')} ({share(used / total)}) on {source} in use, by "
        f"sockets bound before connect(){none_left}",
        AddressSubject(source),
        {
            facts.USED: used,
            facts.PORTS: total,
            facts.USED_RATIO: round(used / total, 4),
            facts.BIND_PARITY: sum(1 for port in ports if (port - view.budget.low) % 2),
            facts.RANGE_LOW: view.budget.low,
            facts.RANGE_HIGH: view.budget.high,
        },
        (
            Advice(
                "Let the application choose the address without choosing a port",
                "setsockopt(IP_BIND_ADDRESS_NO_PORT) before bind(address, 0), Linux 4.2 or later",
                "none: the port is chosen at connect(), per destination",
                f"fewer rows than connections: twdiag sockets --rule {NAME}",
            ),
            Advice(
                "Or give the application more source addresses",
                "each local address has its own set of ports for bind()",
            ),
        ),
    )


def rows(view: View, limits: Limits, group: Group[_Ports]) -> RowsBehind:
    """Return the sockets that hold the ports of the address."""
    source, ports, _ = group.about
    return RowsBehind(
        lambda socket: (
            socket.local_address == source
            and socket.local_port in ports
            and socket.state is not State.LISTEN
        )
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", _RANGE),
    (NOTICE, WARNING),
    rows,
)
