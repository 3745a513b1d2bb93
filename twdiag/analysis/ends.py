"""Join the two ends of connections that both lie on this host, be it in two namespaces.

A TIME_WAIT has no other end; what NAT translated, or a proxy cut in two, joins only through
conntrack or not at all.  So only what can be one connection and no other is joined.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model.sockets import Socket

_OTHER_END: Final = {
    State.ESTABLISHED: State.ESTABLISHED,
    State.CLOSE_WAIT: State.FIN_WAIT2,
    State.FIN_WAIT2: State.CLOSE_WAIT,
}


class End(NamedTuple):
    """One socket, and a number of the namespace that it is in (an inode, say)."""

    namespace: int
    socket: Socket


class Joined(NamedTuple):
    """A connection seen at both ends."""

    one: End
    other: End


def join(ends: Iterable[End]) -> list[Joined]:
    """Return the connections of which both ends are there, each once.

    Loopback and link-local addresses mean something else in each namespace, and are joined within
    one only.  Where more than one socket could be the other end, or be this one, none is taken.
    """
    places: dict[tuple[object, ...], list[End]] = defaultdict(list)
    found = [end for end in ends if end.socket.state in _OTHER_END]
    for end in found:
        places[_key(end)].append(end)
    joined = []
    for end in found:
        key = _key(end)
        others = places.get(_reversed(end), [])
        # A connection to itself (one socket, both ends alike) has no other end.
        if len(others) != 1 or len(places[key]) != 1 or others[0] is end:
            continue
        other = others[0]
        fits = other.socket.state is _OTHER_END[end.socket.state]
        if fits and key < _key(other):
            joined.append(Joined(end, other))
    return joined


def _key(end: End) -> tuple[int, str, int, str, int]:
    one = end.socket
    return (
        _scope(end),
        one.local_address,
        one.local_port,
        one.remote_address,
        one.remote_port,
    )


def _reversed(end: End) -> tuple[int, str, int, str, int]:
    scope, address, port, remote, remote_port = _key(end)
    return scope, remote, remote_port, address, port


def _scope(end: End) -> int:
    """Return the namespace within which the addresses mean something, 0 for all of them."""
    addresses = (end.socket.local_address, end.socket.remote_address)
    return end.namespace if any(map(is_of_one_namespace, addresses)) else 0


def is_of_one_namespace(address: str) -> bool:
    """Return whether an address means something else in each namespace."""
    return address.startswith(("127.", "fe80:", "169.254.")) or address == "::1"
