"""The listeners, and what each local port is: one for connect() to hand out, theirs, or another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.model.census import Listener

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twdiag.model.ports import PortBudget
    from twdiag.model.sockets import Socket

USABLE, LISTENING, OTHER, PARTLY = 1, 2, 4, 8
"""The kinds of a port: connect() may hand it out, somebody listens on it, neither.

PARTLY: somebody listens on it, but only at some of the addresses of the host.
"""

_ANYWHERE: Final = ("0.0.0.0", "::")


def listeners_of(sockets: Iterable[Socket]) -> dict[tuple[str, int], Listener]:
    """Return the listeners by (address, port), SO_REUSEPORT copies folded into one."""
    copies: dict[tuple[str, int], list[Socket]] = {}
    for socket in sockets:
        copies.setdefault((socket.local_address, socket.local_port), []).append(socket)
    found = {}
    for (address, port), same in copies.items():
        dual = address == "::" and not all(socket.v6only for socket in same)
        any_ipv4, any_ipv6 = address == "0.0.0.0" or dual, address == "::"
        found[address, port] = Listener(address, port, tuple(same), any_ipv4, any_ipv6)
    return found


def find_listener(
    listeners: Mapping[tuple[str, int], Listener], address: str, port: int
) -> Listener | None:
    """Return the listener that a local address and port belong to, the most specific first."""
    for candidate in (address, *_ANYWHERE):
        listener = listeners.get((candidate, port))
        if listener is not None and listener.takes(address):
            return listener
    return None


def port_kinds(budget: PortBudget, listeners: Iterable[Listener], *, ipv6: bool) -> bytes:
    """Return the kind of each of the 65,536 ports, as it is to sockets of one family."""
    kinds = bytearray(budget.usable_mask.translate(bytes([OTHER, USABLE]) + bytes(254)))
    partly, anywhere = set[int](), set[int]()
    for listener in listeners:
        if listener.any_ipv6 if ipv6 else listener.any_ipv4:
            anywhere.add(listener.port)
        elif listener.address not in _ANYWHERE and (":" in listener.address) is ipv6:
            partly.add(listener.port)
    for port in partly | anywhere:
        kinds[port] = LISTENING if port in anywhere else PARTLY
    return bytes(kinds)
