"""How far each SNAT has used up its source ports, and which of them a new connection can get."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from twdiag.model.conntrack import OVER
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.conntrack import Conntrack, Snat

EVICTS_SINCE: Final = (6, 5)
"""The Linux that gives the port of an entry in TIME_WAIT or CLOSE to a new connection.

"snat: evict closing tcp entries on reply tuple collision", net/netfilter/nf_nat_core.c.  No file
tells whether a distribution has taken it back to an older kernel.
"""


_ENOUGH: Final = 100
"""So many entries of a part of the table tell the whole to within a third (three deviations)."""


class SnatUse(NamedTuple):
    """The use of one SNAT's ports; those of connections that are `over` can be had again.

    `estimated` numbers come from a part of the table.
    """

    snat: Snat
    states: Mapping[str, int]
    used: int
    over: int
    estimated: bool = False

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
    whole = _whole(conntrack)
    uses = [_use(snat, states, whole) for snat, states in conntrack.snats.items()]
    return sorted(uses, key=lambda use: (-use.live_ratio, -use.used_ratio, use.snat))


def _whole(conntrack: Conntrack) -> float:
    """Return how many times the entries that were read the table has.

    The kernel hands them out in the order of their hash, so that a part is a fair sample.
    """
    read = sum(conntrack.states.values()) + conntrack.others
    if conntrack.complete or conntrack.counters is None or not read:
        return 1.0
    return max(1.0, conntrack.counters.entries / read)


def _use(snat: Snat, states: Mapping[str, int], whole: float) -> SnatUse:
    used, over = sum(states.values()), sum(states.get(state, 0) for state in OVER)
    if whole == 1.0 or used < _ENOUGH:
        return SnatUse(snat, states, used, over)
    states = {state: round(whole * number) for state, number in states.items()}
    used = min(snat.ports, round(whole * used))
    return SnatUse(snat, states, used, min(used, round(whole * over)), True)


def evicts(kernel: str) -> bool:
    """Return whether a kernel, by its release, is one that evicts connections that are over."""
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", kernel, re.ASCII)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= EVICTS_SINCE
