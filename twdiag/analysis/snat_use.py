"""How far each SNAT has used up its source ports, and which of them a new connection can get."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.conntrack import OVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.conntrack import Conntrack, Snat

EVICTS_SINCE: Final = (6, 5)
"""The Linux that gives the port of an entry in TIME_WAIT or CLOSE to a new connection.

"snat: evict closing tcp entries on reply tuple collision", net/netfilter/nf_nat_core.c.  No file
tells whether a distribution has taken it back to an older kernel.
"""


class SnatUse(NamedTuple):
    """The use of one SNAT's ports; those of connections that are `over` can be had again."""

    snat: Snat
    states: Mapping[str, int]
    used: int
    over: int

    @property
    def live(self) -> int:
        """Ports of connections that are not over: nothing but their end gives them back."""
        return self.used - self.over

    @property
    def used_ratio(self) -> float:
        """All used ports as a share of those that there are."""
        return self.used / self.snat.ports

    @property
    def live_ratio(self) -> float:
        """The ports of live connections as a share of those that there are."""
        return self.live / self.snat.ports


def snat_uses(conntrack: Conntrack | None) -> list[SnatUse]:
    """Return the use of each SNAT's ports, the fullest first."""
    if conntrack is None or conntrack.snats is None:
        return []
    uses = [
        SnatUse(snat, states, sum(states.values()), sum(states.get(s, 0) for s in OVER))
        for snat, states in conntrack.snats.items()
    ]
    return sorted(uses, key=lambda use: (-use.live_ratio, -use.used_ratio, use.snat))


def evicts(kernel: str) -> bool:
    """Return whether a kernel, by its release, is one that evicts connections that are over."""
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", kernel, re.ASCII)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= EVICTS_SINCE
