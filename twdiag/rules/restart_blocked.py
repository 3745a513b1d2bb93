"""Left-over sockets of a stopped server would make its next bind() fail.

What it means:
Sockets of a port on which nothing listens any more are still there, with several remote ends:
what a server leaves behind that closed its connections first, or whose listener is closed
already. Each left-over socket, in whatever state, blocks bind() to its address and port unless
both it and the new socket have SO_REUSEADDR; TIME_WAIT does so for 60 s.

Why it matters:
A restart fails with EADDRINUSE ("Address already in use") until the last of them has gone.

What to do:
Set SO_REUSEADDR before bind(); nearly every server does. It only helps if the sockets that are
left over were made by a listener that had it too. Otherwise wait for the seconds given.

What not to do:
- Do not use SO_REUSEPORT for this: it does not help against left-over sockets.
- Do not move the server to another port.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twdiag.model import Advice, Confidence, Finding, Place, PortSubject, Rule, Severity
from twdiag.rules import manual
from twdiag.tcp import State
from twdiag.wording import count, duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "restart-blocked"
MANUAL = __doc__ or ""
_CLIENTS_FROM = 10_000  # Linux hands out 32768-60999, IANA and Windows 49152-65535, BSD from 10000
_SURELY_A_SERVICE = 20
_FEW_SERVICES = 3
_FTP_DATA = 20


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each port whose server cannot come back yet.

    Clients come from ephemeral ports of their own, each from another; an outgoing connection from a
    fixed port (NFS, rsh, BGP) goes to the port of a service.  More than a few such ports are no
    services but a protocol that hands out ports, such as passive FTP.
    """
    flows = snapshot.flows
    ends = flows.remote_ends_of_left_overs(_CLIENTS_FROM, _SURELY_A_SERVICE)
    services = [
        port
        for port, remote in sorted(ends.items())
        if port != _FTP_DATA
        and len(remote)
        >= (_SURELY_A_SERVICE if port in flows.budget else limits["restart-blocked"])
    ]
    if len(services) <= _FEW_SERVICES:
        for port in services:
            yield _finding(snapshot, port, flows.left_over_rows(port))


def _finding(snapshot: Snapshot, port: int, rows: list[int]) -> Finding:
    table = snapshot.sockets
    states = Counter(State(table.state[row]) for row in rows)
    only_timed = set(states) <= {State.TIME_WAIT}
    # The timer wheel removes a TIME_WAIT up to 2 s after its 60 s (HZ=250).
    free_in = max(table.expires[row] for row in rows) / 1000 + 2 if only_timed else None
    until = f" for {duration(free_in)}" if free_in is not None else ""
    addresses = sorted({table.addresses.text(table.src[row]) for row in rows})
    where = endpoint(addresses[0], port) if len(addresses) == 1 else f"port {port}"
    words = ", ".join(f"{number:,} {state.name}" for state, number in states.most_common())
    return Finding(
        NAME,
        Severity.NOTICE,
        Confidence.INFERRED,
        f"bind() to {where} fails{until} without SO_REUSEADDR: nothing listens there, but "
        f"{count(len(rows), 'socket')} of it {'is' if len(rows) == 1 else 'are'} left ({words})",
        PortSubject(port),
        {
            "sockets": len(rows),
            "states": [state.name for state, _ in states.most_common()],
            "state_sockets": [number for _, number in states.most_common()],
            "seconds_until_free": None if free_in is None else round(free_in, 1),
            "addresses": addresses[:5],
        },
        manual.why(MANUAL),
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
        manual.do_not(MANUAL),
        Place.of(states.most_common(1)[0][0]),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "net.ipv4.ip_local_port_range"))
