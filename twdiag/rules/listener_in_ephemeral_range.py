"""A server's fixed port lies where the kernel takes ports for outgoing connections.

What it means:
The port was chosen by the application (an explicit bind()) and lies inside ip_local_port_range,
without being in ip_local_reserved_ports. Listeners whose port the kernel chose are not meant.

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

from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.model.ports import DEFAULT_RANGE, format_ports, parse_ports
from twdiag.rules import manual
from twdiag.rules.subjects import listener_inodes, listener_name, listener_subject
from twdiag.tcp import State
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.census.groups import Listener
    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "listener-in-ephemeral-range"
MANUAL = __doc__ or ""
_RESERVED = "net.ipv4.ip_local_reserved_ports"
_MOST_PORTS = 100


def _concerned(snapshot: Snapshot) -> Iterator[Listener]:
    """Yield one listener for each fixed, unreserved port in the range."""
    budget, cookies = snapshot.flows.budget, snapshot.sockets.cookie
    auto_bound = snapshot.auto_bound or frozenset()
    seen: set[int] = set()
    for listener in snapshot.flows.listeners.values():
        if listener.port not in budget or listener.port in budget.reserved:
            continue
        if all(cookies[row] in auto_bound for row in listener.rows) or listener.port in seen:
            continue
        seen.add(listener.port)
        yield listener


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of the listeners concerned."""
    return listener_inodes(snapshot, _concerned(snapshot))


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for all fixed ports in the range."""
    concerned = sorted(_concerned(snapshot), key=lambda listener: listener.port)
    if not concerned:
        return
    budget = snapshot.flows.budget
    ports = [listener.port for listener in concerned]
    widened = (budget.low, budget.high) != DEFAULT_RANGE and any(
        not DEFAULT_RANGE[0] <= port <= DEFAULT_RANGE[1] for port in ports
    )
    subject = listener_subject(snapshot, concerned[0])
    who = listener_name(subject)
    if len(ports) > 1:
        who = f"{count(len(ports), 'server')} ({who} and others)"
    because = ", which was widened over them" if widened else ""
    yield Finding(
        NAME,
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{who} {'listen' if len(ports) > 1 else 'listens'} inside the ephemeral range "
        f"{budget.low}-{budget.high}{because}, unreserved",
        subject,
        {
            "listeners": len(ports),
            "service_ports": ports[:_MOST_PORTS],
            "range_low": budget.low,
            "range_high": budget.high,
            "range_widened": widened,
        },
        manual.why(MANUAL),
        _advice(snapshot, ports),
        manual.do_not(MANUAL),
        Place.of(State.LISTEN),
        snapshot.netns,
    )


def _advice(snapshot: Snapshot, ports: list[int]) -> tuple[Advice, ...]:
    already = parse_ports(snapshot.sysctls.get(_RESERVED, ""))
    together = format_ports({p for low, high in already for p in range(low, high + 1)} | {*ports})
    return (
        Advice(
            "Reserve the ports" if len(ports) > 1 else "Reserve the port",
            f"sysctl -w {_RESERVED}={together}",
            "as many ephemeral ports fewer; put it into /etc/sysctl.d/ too",
            f"cat /proc/sys/{_RESERVED.replace('.', '/')}",
        ),
        Advice("Or move the service below the range", f"a port below {snapshot.flows.budget.low}"),
    )


RULE = Rule(
    NAME,
    MANUAL,
    check,
    ("sockets", "bind-mode", "net.ipv4.ip_local_port_range", _RESERVED),
    inodes,
)
