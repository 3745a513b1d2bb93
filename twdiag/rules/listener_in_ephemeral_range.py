"""A server's fixed port lies where the kernel takes ports for outgoing connections.

What it means:
The port was chosen by the application (an explicit bind()) and lies inside ip_local_port_range,
without being in ip_local_reserved_ports. Listeners whose port the kernel chose do not count.

Why it matters:
While the server runs, its port is safe. When it is stopped, or before it starts at boot, an
outgoing connection can take the number as its own local port, and then the server cannot bind,
not even with SO_REUSEADDR, until that connection and its TIME_WAIT are gone.

What to do:
Reserve the port, or move the service below the range.

What not to do:
- Do not widen ip_local_port_range downwards without looking at what listens there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.model.ports import DEFAULT_RANGE, format_ports, parse_ports
from twdiag.rules import manual
from twdiag.rules.behind import these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject
from twdiag.tcp import State
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.census import Listener
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind

NAME = "listener-in-ephemeral-range"
_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"
_MOST_PORTS = 100

_Concerned = list["Listener"]


def select(view: View, limits: Limits) -> Iterator[Group[_Concerned]]:
    """Yield the fixed, unreserved ports in the range, one listener each, in one group."""
    found: dict[int, Listener] = {}
    for listener in view.listeners:
        if listener.port not in view.budget or listener.port in view.budget.reserved:
            continue
        if not all(socket.auto_bound for socket in listener.sockets):
            found.setdefault(listener.port, listener)
    if found:
        concerned = [found[port] for port in sorted(found)]
        yield Group(concerned, listener_inodes(*concerned))


def tell(view: View, limits: Limits, group: Group[_Concerned]) -> Iterator[Finding]:
    """Yield one finding for all fixed ports in the range."""
    budget = view.budget
    ports = [listener.port for listener in group.about]
    widened = (budget.low, budget.high) != DEFAULT_RANGE and any(
        not DEFAULT_RANGE[0] <= port <= DEFAULT_RANGE[1] for port in ports
    )
    subject = listener_subject(view, group.about[0])
    who = listener_name(subject)
    if len(ports) > 1:
        who = f"{count(len(ports), 'server')} ({who} and others)"
    because = ", which was widened over them" if widened else ""
    yield Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{who} {'listen' if len(ports) > 1 else 'listens'} inside the ephemeral range "
        f"{budget.low}-{budget.high}{because}, unreserved",
        subject,
        {
            facts.LISTENERS: len(ports),
            facts.SERVICE_PORTS: ports[:_MOST_PORTS],
            facts.RANGE_LOW: budget.low,
            facts.RANGE_HIGH: budget.high,
            facts.RANGE_WIDENED: widened,
        },
        _advice(view, ports),
        Place.of(State.LISTEN),
    )


def _advice(view: View, ports: list[int]) -> tuple[Advice, ...]:
    already = parse_ports(view.sysctl_text(_RESERVED))
    together = format_ports({p for low, high in already for p in range(low, high + 1)} | {*ports})
    return (
        Advice(
            "Reserve the ports" if len(ports) > 1 else "Reserve the port",
            f"sysctl -w {_RESERVED}={together}",
            "one ephemeral port less for each; put it in /etc/sysctl.d/ too",
            f"cat /proc/sys/{_RESERVED.replace('.', '/')}",
        ),
        Advice("Or move the service below the range", f"a port below {view.budget.low}"),
    )


def rows(view: View, limits: Limits, group: Group[_Concerned]) -> RowsBehind:
    """Return the listeners on the ports."""
    return these(socket for listener in group.about for socket in listener.sockets)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "bind-mode", _RANGE, _RESERVED),
    rows=rows,
)
