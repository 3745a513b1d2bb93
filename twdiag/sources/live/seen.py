"""What a reader of sockets brings back, whichever way it looked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twdiag.census.table import SocketTable
    from twdiag.model import Gap, TcpInfo


@dataclass
class Seen:
    """The sockets of one namespace, with the ages and listeners that only some readers can see.

    `tcp_info` maps cookies to ages; `auto_bound` holds the cookies of listeners on a port that the
    kernel chose, None where the reader cannot tell; `gaps` says what this reader did not see.
    """

    table: SocketTable
    tcp_info: dict[int, TcpInfo] = field(default_factory=dict)
    auto_bound: frozenset[int] | None = None
    cgroups: dict[int, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
