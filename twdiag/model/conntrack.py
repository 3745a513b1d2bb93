"""What connection tracking holds, as values: entries by SNAT, counters, how full the table is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES: Final = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)
"""TCP states of connection tracking (enum tcp_conntrack); they are not those of sockets."""

OVER: Final = frozenset({"TIME_WAIT", "CLOSE"})
"""States of connections that are over: a new connection may take their port.

nf_nat_may_kill() in net/netfilter/nf_nat_core.c, since Linux 6.5.
"""

WORTH_A_LOOK: Final = 0.5
"""From which share of the table on its entries are looked at, 3 us each, without a NAT too."""

INSERT_FAILED: Final = "nf_conntrack.insert_failed"
DROP: Final = "nf_conntrack.drop"
EARLY_DROP: Final = "nf_conntrack.early_drop"
"""The names of the counters among those of a snapshot, so that growth is told as of any other."""


class Snat(NamedTuple):
    """Connections that leave with another source: the ports of `address` towards a destination.

    `low` to `high` are the ports that a new connection can get there; `by_rule` tells whether a
    rule says so, else it is where the kernel looks if no rule does.  A `zone` of conntrack has its
    own connections, which may pass through other zones too.
    """

    address: str
    destination: str
    port: int
    low: int = 1024
    high: int = 65535
    by_rule: bool = False
    zone: int = 0

    @property
    def ports(self) -> int:
        """How many ports that is."""
        return self.high - self.low + 1


class ConntrackCounters(NamedTuple):
    """Counters of a namespace since boot, summed over the CPUs; `entries` is how many there are.

    None was not seen.
    """

    entries: int
    insert_failed: int | None = None
    drop: int | None = None
    early_drop: int | None = None


class Conntrack(NamedTuple):
    """What was seen.

    `snats` counts TCP entries by SNAT and state, None without SNAT or without the right; of those
    that use few of their ports the largest is enough.  On a SNAT's ports there may be entries that
    were not translated, such as connections of the gateway itself: they hold ports too.  `states`
    are all TCP entries by state, `others` those of other protocols.  `maximum` is nf_conntrack_max,
    which each namespace's own count is compared with.
    `complete` is False where the time ended before the entries did: there are more.
    """

    counters: ConntrackCounters | None = None
    maximum: int | None = None
    snats: Mapping[Snat, Mapping[str, int]] | None = None
    states: Mapping[str, int] = {}
    others: int = 0
    complete: bool = True

    @property
    def counted(self) -> dict[str, int]:
        """The counters by their names among those of a snapshot."""
        seen = self.counters
        if seen is None:
            return {}
        found = {
            INSERT_FAILED: seen.insert_failed,
            DROP: seen.drop,
            EARLY_DROP: seen.early_drop,
        }
        return {name: number for name, number in found.items() if number is not None}
