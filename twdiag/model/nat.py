"""What a NAT rule does, as far as ports are concerned."""

from __future__ import annotations

from typing import Final, NamedTuple

Ports = tuple[int, int]
"""The first and the last port of a range."""

SOURCE_CLASSES: Final[tuple[Ports, ...]] = ((1, 511), (600, 1023), (1024, 65535))
"""Where the kernel looks for a source port if the rule names none: in the class of the old one.

nf_nat_l4proto_unique_tuple() in net/netfilter/nf_nat_core.c; an old port of 512 to 599 gets one of
the middle class.
"""


class NatRule(NamedTuple):
    """A rule that gives connections another source, or another destination.

    `addresses` are the first and the last new address, None where it is this host's (masquerade,
    redirect); `ports` the new ports, None where the rule names none.  `to` are the destination
    ports that it is for, None for any; `certain` is False where the rule has a condition on them
    that was not understood.  `local` rules are for connections that begin on this host.
    """

    source: bool
    addresses: tuple[bytes, bytes] | None = None
    ports: Ports | None = None
    to: tuple[Ports, ...] | None = None
    certain: bool = True
    local: bool = False

    def gives(self, address: bytes) -> bool:
        """Return whether the rule can give this address; a masquerade gives any of the host's."""
        if self.addresses is None:
            return True
        first, last = self.addresses
        return len(first) == len(address) and first <= address <= last

    def takes(self, port: int) -> bool:
        """Return whether the rule is for this destination port, as far as it was understood."""
        return self.to is None or any(low <= port <= high for low, high in self.to)


class Diversion(NamedTuple):
    """Where NAT leads connections to a local port: to this address (None: this host) and port.

    `port` None is the same port.  `by_rule` tells whether a rule says so, `local` that the rule is
    for connections that begin on this host; `connections` are those tracked now.
    """

    address: str | None
    port: int | None
    by_rule: bool = True
    local: bool = False
    connections: int = 0


class Diversions(NamedTuple):
    """What NAT does with a port; `unsure` counts the rules whose ports were not understood."""

    found: tuple[Diversion, ...] = ()
    unsure: int = 0


class NatRules(NamedTuple):
    """The rules that were found; `complete` is False where there may be more."""

    rules: tuple[NatRule, ...] = ()
    complete: bool = True
