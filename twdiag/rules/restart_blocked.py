"""Left-over sockets of a stopped server would make its next bind() fail.

What it means:
Sockets of a port on which nothing listens any more are still there, with several remote ends: they
are left over from a server that closed its connections first, or that has closed its listener. Each
left-over socket, in whatever state, blocks bind() to its address and port unless both it and the
new socket have SO_REUSEADDR, or both SO_REUSEPORT (same user, except against TIME_WAIT). A
TIME_WAIT blocks for 60 to 64 s.

Why it matters:
A restart fails with EADDRINUSE ("Address already in use") until the last of them is gone.

What to do:
Set SO_REUSEADDR before bind(); nearly every server does. It only helps if the sockets that are
left over were made by a listener that had it too. Otherwise wait for the seconds given.

What not to do:
- Do not add SO_REUSEPORT only to the new socket: like SO_REUSEADDR it helps only if the old socket
  had it too, and it lets a second listener share the port.
- Do not move the server to another port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.census.intake import CLIENTS_FROM
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, PortSubject, Severity
from twdiag.model.limits import sockets
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind
from twdiag.rules.rule import Group, Rule
from twdiag.tcp import LONGEST_TIME_WAIT_SECONDS, TIME_WAIT_SECONDS, State
from twdiag.wording import count, duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.census import LocalEnd, Tally
    from twdiag.model.limits import Limits
    from twdiag.model.sockets import Socket

NAME = "restart-blocked"
LEAST = sockets("restart-blocked", 3, "left-over sockets of a service without a listener")
_SURELY_A_SERVICE = 20
_FEW_SERVICES = 3
_FTP_DATA = 20


def select(view: View, limits: Limits) -> Iterator[Group[LocalEnd]]:
    """Yield each port whose server cannot come back yet.

    Clients come from ephemeral ports of their own, each from another; an outgoing connection from a
    fixed port (NFS, rsh, BGP) goes to the port of a service.  More than a few such ports are no
    services but a protocol that hands out ports, such as passive FTP.
    """
    services = [
        end
        for end in sorted(view.census.left_overs, key=lambda end: end.port)
        if end.port != _FTP_DATA
        and end.remote_ports >= (_SURELY_A_SERVICE if end.port in view.budget else limits[LEAST])
    ]
    if len(services) <= _FEW_SERVICES:
        yield from map(Group, services)


def tell(view: View, limits: Limits, group: Group[LocalEnd]) -> Iterator[Finding]:
    """Yield one finding for each port."""
    port, addresses, _, tally = group.about
    states = sorted(tally.states.items(), key=lambda item: -item[1])
    free_in = _free_in(tally)
    until = f" for {duration(free_in)}" if free_in is not None else ""
    where = _where(addresses, port)
    words = ", ".join(f"{number:,} {state.name}" for state, number in states)
    yield Finding(
        Severity.NOTICE,
        Confidence.INFERRED,
        f"bind() to {where} fails{until} without SO_REUSEADDR: nothing listens there, but "
        f"{count(tally.sockets, 'socket')} of it {'is' if tally.sockets == 1 else 'are'} left "
        f"({words})",
        PortSubject(port),
        {
            facts.SOCKETS: tally.sockets,
            facts.STATES: [state.name for state, _ in states],
            facts.STATE_SOCKETS: [number for _, number in states],
            facts.SECONDS_UNTIL_FREE: free_in,
            facts.ADDRESSES: list(addresses[:5]),
        },
        (
            Advice(
                "Set SO_REUSEADDR on the listening socket before bind()",
                "setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)",
                "none for a server: it never allows two live listeners",
                f"fewer rows: ss -tanH sport = :{port}",
            ),
            Advice(
                "Or wait until the sockets are gone",
                f"{duration(free_in)}" if free_in is not None else "their peers have to close",
            ),
        ),
        Place.of(states[0][0]),
    )


def _where(addresses: tuple[str, ...], port: int) -> str:
    if len(addresses) == 1:
        return endpoint(addresses[0], port)
    # A listener on 0.0.0.0 may be there all the same.
    return endpoint("::", port) if all(":" in a for a in addresses) else f"port {port}"


def _free_in(tally: Tally) -> float | None:
    """Return the seconds until the last socket is gone for sure, None where only a peer knows.

    The timer wheel removes a TIME_WAIT late.
    """
    if set(tally.states) != {State.TIME_WAIT}:
        return None
    newest = max((n for n, closes in enumerate(tally.time_wait.seconds, 1) if closes), default=0)
    return float(newest + LONGEST_TIME_WAIT_SECONDS - TIME_WAIT_SECONDS)


def rows(view: View, limits: Limits, group: Group[LocalEnd]) -> RowsBehind:
    """Return the sockets that are left of the service."""
    port, addresses, _, _ = group.about
    ephemeral = bool(view.budget.usable_mask[port])

    def fits(socket: Socket) -> bool:
        return (
            socket.local_port == port
            and socket.local_address in addresses
            and socket.state is not State.LISTEN
            and not socket.bound
            and (not ephemeral or socket.remote_port >= CLIENTS_FROM)
        )

    return RowsBehind(fits)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "net.ipv4.ip_local_port_range"),
    (LEAST,),
    rows,
)
