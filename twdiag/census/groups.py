"""What the socket table is grouped into: listeners, servers, destinations, and their histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.addresses import is_ipv6
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twdiag.census.table import SocketTable

Endpoint = tuple[int, int]
"""(address number, port)"""

RECENT_SECONDS: Final = 10
"""The window of a "recent" rate: long enough to outlast a burst, short against the 60 s."""


class Listener(NamedTuple):
    """A listening address and port; SO_REUSEPORT copies are folded into one.

    `rows` are its LISTEN rows; `any_ipv4` and `any_ipv6` tell which families a wildcard takes.
    """

    address: int
    port: int
    rows: tuple[int, ...]
    any_ipv4: bool = False
    any_ipv6: bool = False

    def takes(self, address: int) -> bool:
        """Return whether connections to a local address of this port belong to the listener."""
        if address == self.address:
            return True
        return self.any_ipv6 if is_ipv6(address) else self.any_ipv4


class History(NamedTuple):
    """When the TIME_WAITs of a group began: `seconds` has 60 counts, newest last.

    `total` also counts those past their 60 s that the kernel has not removed yet.
    """

    seconds: tuple[int, ...]
    total: int

    @property
    def mean(self) -> float:
        """Closes per second over the minute."""
        return sum(self.seconds) / TIME_WAIT_SECONDS

    @property
    def recent(self) -> float:
        """The sustained closing rate: the median of the last ten seconds, so no single burst."""
        return _median(self.seconds[-RECENT_SECONDS:])

    @property
    def before(self) -> float:
        """The mean closing rate of the fifty seconds before those ten."""
        return sum(self.seconds[:-RECENT_SECONDS]) / (TIME_WAIT_SECONDS - RECENT_SECONDS)


class Server(NamedTuple):
    """What the closing side of a listener looks like: this host's server closed these first."""

    listener: Listener
    time_wait: History
    fin_wait1: int
    fin_wait2: int

    @property
    def sockets(self) -> int:
        """All sockets that the server closed first and that are still there."""
        return self.time_wait.total + self.fin_wait1 + self.fin_wait2


class Destination(NamedTuple):
    """The sockets of this host's clients to one (source, destination, port)."""

    source: int
    address: int
    port: int
    states: Mapping[State, int]
    time_wait: History
    young: int

    @property
    def sockets(self) -> int:
        """All sockets on the tuple; each holds one local port."""
        return sum(self.states.values())


def history_of(seconds: Mapping[int, int]) -> History:
    """Return the history of {second: TIME_WAITs}; second 0 is the newest, 60 past its time."""
    newest_last = range(TIME_WAIT_SECONDS - 1, -1, -1)
    return History(tuple(seconds.get(n, 0) for n in newest_last), sum(seconds.values()))


def _median(values: Sequence[int]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2


def listeners_of(table: SocketTable) -> dict[Endpoint, Listener]:
    """Return the listeners by (address number, port), SO_REUSEPORT copies folded into one."""
    rows: dict[Endpoint, list[int]] = {}
    for row in table.rows_in(State.LISTEN):
        rows.setdefault((table.src[row], table.sport[row]), []).append(row)
    ipv6_any = table.addresses.of_bytes(bytes(16))
    found = {}
    for (address, port), copies in rows.items():
        dual = address == ipv6_any and any(row not in table.v6only for row in copies)
        found[address, port] = Listener(
            address, port, tuple(copies), address == 0 or dual, address == ipv6_any
        )
    return found
