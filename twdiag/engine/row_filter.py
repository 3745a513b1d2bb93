"""Which rows are asked for: states, ports, remote ends and processes, as words and as tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import UsageError
from twdiag.model.limits import nearest
from twdiag.model.sockets import BOUND
from twdiag.tcp import State, parse_state

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from twdiag.model.snapshot import Owner
    from twdiag.model.sockets import Socket

BOUND_WORD: Final = "BOUND"
"""What twdiag calls a socket that is bound and neither listens nor connects."""

STATES: Final = (*(state.name for state in State if state is not State.CLOSE), BOUND_WORD)
"""The states that sockets can be asked for by."""


class Peer(NamedTuple):
    """A remote end to look for: a network (None is any) and a port (None is any)."""

    network: IPv4Network | IPv6Network | None
    port: int | None

    def takes(self, address: str, port: int) -> bool:
        """Return whether a remote end is meant."""
        if self.port is not None and port != self.port:
            return False
        return self.network is None or _is_within(address, self.network)


@lru_cache(maxsize=4096)
def _is_within(address: str, network: IPv4Network | IPv6Network) -> bool:
    import ipaddress

    return ipaddress.ip_address(address.partition("%")[0]) in network


def parse_peer(text: str) -> Peer:
    """Return what --peer means: ADDRESS, ADDRESS/BITS, :PORT, or both; IPv6 with a port in [].

    Raises UsageError for any other text.
    """
    import ipaddress

    address, port = _parted(text.strip())
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    try:
        if port and not 1 <= number <= 65535:
            raise ValueError
        if not address and not port:
            raise ValueError
        network = ipaddress.ip_network(_unmapped(address), strict=False) if address else None
    except ValueError as error:
        what = f"--peer {text[:80]!r} is no address, network or port"
        raise UsageError(
            what, "for example 10.0.0.5, 10.0.0.0/8, 10.0.0.5:5432, [2001:db8::1]:443, :5432"
        ) from error
    return Peer(network, number or None)


def _parted(text: str) -> tuple[str, str]:
    """Return (address or network, port); a port that is not there is empty."""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            return "[", ""
        return address or "[", rest[1:]
    address, colon, port = text.rpartition(":")
    if colon and ":" not in address and "/" not in port:
        return (address, port) if port else ("[", "")
    return text, ""


def _unmapped(address: str) -> str:
    """Return a v4-mapped address as IPv4, as the rows have it; the scope of others left out."""
    plain = address.partition("%")[0] if "/" not in address else address
    head, _, last = plain.rpartition(":")
    return last if head.lower() == "::ffff" and "." in last else plain


def parse_states(words: Iterable[str]) -> frozenset[State | str]:
    """Return the states that --state names, BOUND_WORD among them; raises UsageError for others."""
    found: set[State | str] = set()
    for word in words:
        state = parse_state(word)
        if word.strip().upper() == BOUND_WORD:
            found.add(BOUND_WORD)
        elif state is not None and state is not State.CLOSE:
            found.add(state)
        else:
            near = nearest(word.upper().replace("-", "_"), STATES)
            what = f"there is no state {word[:80]!r}{near}"
            raise UsageError(what, f"the states: {', '.join(STATES)}")
    return frozenset(found)


@dataclass(frozen=True)
class Filter:
    """The filters that look at one socket alone; empty ones take all."""

    states: frozenset[State | str] = frozenset()
    ports: frozenset[int] = frozenset()
    peers: tuple[Peer, ...] = ()

    @property
    def bits(self) -> int:
        """The states as sock_diag numbers them, for a dump of no others."""
        from twdiag.sources.live.sockets.inet_diag import ALL_STATES

        bits = 0
        for state in self.states:
            bits |= 1 << (BOUND if isinstance(state, str) else state)
            bits |= (state is State.SYN_RECV) << 12
        return bits or ALL_STATES

    def takes(self, socket: Socket) -> bool:
        """Return whether a socket is asked for."""
        state = BOUND_WORD if socket.bound else socket.state
        local_port, remote_port = socket.local_port, socket.remote_port
        if self.states and state not in self.states:
            return False
        if self.ports and local_port not in self.ports and remote_port not in self.ports:
            return False
        if not self.peers:
            return True
        far = socket.remote_address, remote_port
        return bool(remote_port) and any(peer.takes(*far) for peer in self.peers)


def owned_by(owners: Iterable[Owner] | None, processes: frozenset[str]) -> bool:
    """Return whether one of the owners has one of the names or numbers."""
    return any(o.name in processes or str(o.pid) in processes for o in owners or ())
