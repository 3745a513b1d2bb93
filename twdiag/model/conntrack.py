"""What connection tracking holds, as values: entries by SNAT, counters, how full the table is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES = (
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


class Snat(NamedTuple):
    """Connections that leave with another source: the ports of `address` towards a destination."""

    address: str
    destination: str
    port: int


@dataclass(frozen=True, slots=True)
class ConntrackCounters:
    """Counters of a namespace since boot, summed over the CPUs; `entries` is how many there are."""

    entries: int
    insert_failed: int
    drop: int
    early_drop: int


@dataclass(frozen=True)
class Conntrack:
    """What was seen.  `snats` counts TCP entries by SNAT and state, None without the right to dump.

    `states` are all TCP entries by state, `others` those of other protocols.  `maximum` is
    nf_conntrack_max, which each namespace's own count is compared with.
    """

    counters: ConntrackCounters | None = None
    maximum: int | None = None
    snats: Mapping[Snat, Mapping[str, int]] | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    others: int = 0
