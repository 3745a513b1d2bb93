"""Who closes what: the socket table grouped by listener and by destination.

Everything here is worked out of one table and the port sysctls.  It runs over every row of hosts
with 600,000 TIME_WAITs, hence the masks (one byte a row) and the counting at C speed; objects are
made for groups, never for rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, repeat
from typing import TYPE_CHECKING, Final

from twdiag.budget import PortBudget
from twdiag.table import TIMER_TIME_WAIT, is_ipv6
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from twdiag.table import SocketTable

Endpoint = tuple[int, int]
"""(address number, port)"""

Tuple3 = tuple[int, int, int]
"""(source address number, destination address number, destination port)"""

# The second of the last minute in which a TIME_WAIT began, by its expires in ms: 0 is the newest.
# expires 0 means that it is past its 60 s and waits for the timer wheel (up to 2 s more): index 60.
_EXPIRES_END: Final = 1 << 16
_SECOND_OF: Final = bytes(
    max(0, TIME_WAIT_SECONDS - 1 - (expires - 1) // 1000) for expires in range(_EXPIRES_END)
)
RECENT_SECONDS: Final = 10
"""The window of a "recent" rate: long enough to outlast a burst, short against the 60 s."""


@dataclass(frozen=True, slots=True)
class Listener:
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


@dataclass(frozen=True, slots=True)
class History:
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


@dataclass(frozen=True, slots=True)
class Server:
    """What the closing side of a listener looks like: this host's server closed these first."""

    listener: Listener
    time_wait: History
    fin_wait1: int
    fin_wait2: int

    @property
    def sockets(self) -> int:
        """All sockets that the server closed first and that are still there."""
        return self.time_wait.total + self.fin_wait1 + self.fin_wait2


@dataclass(frozen=True, slots=True)
class Destination:
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


class Flows:
    """The groups of one table."""

    def __init__(self, table: SocketTable, sysctls: Mapping[str, str]) -> None:
        self.table = table
        self.listeners = _listeners(table)
        blocked = {listener.port for listener in self.listeners.values()}
        blocked.update(table.sport[row] for row in table.bound)
        self.budget = PortBudget.of(sysctls, blocked)

    @cached_property
    def time_wait(self) -> bytes:
        """The mask of TIME_WAIT rows."""
        return self.table.mask(State.TIME_WAIT)

    @cached_property
    def closes(self) -> History:
        """When every TIME_WAIT of the namespace began."""
        return self._history(self.time_wait)

    @cached_property
    def _listener_of(self) -> dict[Endpoint, Listener]:
        """The listener of each local endpoint that has one."""
        table, ports = self.table, {port for _, port in self.listeners}
        hit = _marked(table.sport, ports)
        pairs = set(zip(compress(table.src, hit), compress(table.sport, hit), strict=True))
        found = ((pair, self.find_listener(*pair)) for pair in pairs)
        return {pair: listener for pair, listener in found if listener}

    @cached_property
    def server_side(self) -> bytes:
        """The mask of rows whose local address and port belong to a listener."""
        table, endpoints = self.table, self._listener_of
        hit = _marked(table.sport, {port for _, port in endpoints})
        pairs = zip(compress(table.src, hit), compress(table.sport, hit), strict=True)
        own = bytes(map(endpoints.__contains__, pairs))
        if own.count(1) == len(own):
            return hit
        # Some row has the port of a listener but an address that the listener does not take: an
        # outgoing connection that happens to use the same number.
        mask = bytearray(hit)
        for row, is_own in zip(compress(range(len(table)), hit), own, strict=True):
            mask[row] = is_own
        return bytes(mask)

    @cached_property
    def client_side(self) -> bytes:
        """The mask of rows on a port that connect() may hand out: connections made by this host."""
        usable = self.budget.usable_mask
        return _without(bytes(map(usable.__getitem__, self.table.sport)), self.server_side)

    def find_listener(self, address: int, port: int) -> Listener | None:
        """Return the listener that a local address and port belong to, the most specific first."""
        exact = self.listeners.get((address, port))
        if exact is not None:
            return exact
        for listener in self.listeners.values():
            if listener.port == port and listener.takes(address):
                return listener
        return None

    @cached_property
    def servers(self) -> list[Server]:
        """The listeners with sockets that this host closed first, the largest first."""
        table, endpoints = self.table, self._listener_of
        mask = both(self.time_wait, self.server_side)
        seconds: dict[Endpoint, Counter[int]] = {}
        columns = (compress(table.src, mask), compress(table.sport, mask))
        for (src, sport, second), count in self._count_seconds(mask, *columns).items():
            listener = endpoints[src, sport]
            key = (listener.address, listener.port)
            seconds.setdefault(key, Counter())[second] += count
        waits: dict[Endpoint, Counter[int]] = {}
        mask = both(table.mask(State.FIN_WAIT1, State.FIN_WAIT2), self.server_side)
        rows = zip(*(compress(c, mask) for c in (table.src, table.sport, table.state)), strict=True)
        for (src, sport, state), count in Counter(rows).items():
            listener = endpoints[src, sport]
            key = (listener.address, listener.port)
            waits.setdefault(key, Counter())[state] += count
        servers = [
            Server(
                self.listeners[key],
                _history(seconds.get(key, Counter())),
                waits.get(key, Counter())[State.FIN_WAIT1],
                waits.get(key, Counter())[State.FIN_WAIT2],
            )
            for key in seconds.keys() | waits.keys()
        ]
        return sorted(servers, key=lambda s: (-s.sockets, s.listener.port, s.listener.address))

    def clients_of(self, listener: Listener, most: int = 3) -> list[tuple[int, int]]:
        """Return (remote address, sockets) of a listener's closed connections, busiest first."""
        table = self.table
        closing = table.mask(State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2)
        mask = both(closing, self.server_side)
        rows = zip(*(compress(c, mask) for c in (table.sport, table.src, table.dst)), strict=True)
        endpoints, clients = self._listener_of, Counter[int]()
        for (sport, src, dst), count in Counter(rows).items():
            if sport == listener.port and endpoints[src, sport] is listener:
                clients[dst] += count
        return clients.most_common(most)

    @cached_property
    def connections(self) -> Counter[Tuple3]:
        """How many sockets this host's clients have to each (source, destination, port)."""
        table, mask = self.table, self.client_side
        columns = (compress(c, mask) for c in (table.src, table.dst, table.dport))
        return Counter(zip(*columns, strict=True))

    def destinations(self, at_least: int, reuse_delay_ms: int = 1000) -> list[Destination]:
        """Return the destinations with so many sockets or more, the largest first.

        `young` counts their TIME_WAITs younger than the delay before tcp_tw_reuse applies.
        """
        keys = {key for key, count in self.connections.items() if count >= at_least}
        if not keys:
            return []
        table, client = self.table, self.client_side
        columns = tuple(compress(c, client) for c in (table.src, table.dst, table.dport))
        if len(keys) == len(self.connections):
            mask = client
        else:
            chosen = bytearray(len(table))
            wanted = map(keys.__contains__, zip(*columns, strict=True))
            for row in compress(compress(range(len(table)), client), wanted):
                chosen[row] = 1
            mask = bytes(chosen)
        return self._detail(keys, mask, TIME_WAIT_SECONDS * 1000 - reuse_delay_ms)

    def live_inodes(self, destination: Destination, most: int = 8) -> list[int]:
        """Return the inodes of a few live sockets to a destination.

        A TIME_WAIT has no owner any more; who holds its live siblings most likely made it.
        """
        table, found = self.table, []
        live = table.mask(State.ESTABLISHED, State.SYN_SENT, State.CLOSE_WAIT, State.FIN_WAIT2)
        for row in compress(range(len(table)), both(live, self.client_side)):
            ends = (table.src[row], table.dst[row], table.dport[row])
            if ends == (destination.source, destination.address, destination.port):
                if table.inode[row]:
                    found.append(table.inode[row])
                if len(found) == most:
                    break
        return found

    def _detail(self, keys: Collection[Tuple3], mask: bytes, young_from: int) -> list[Destination]:
        table = self.table

        def columns(chosen: bytes) -> tuple[Iterable[int], ...]:
            return tuple(compress(c, chosen) for c in (table.src, table.dst, table.dport))

        states: dict[Tuple3, Counter[State]] = {key: Counter() for key in keys}
        by_state = Counter(zip(*columns(mask), compress(table.state, mask), strict=True))
        for (src, dst, dport, state), count in by_state.items():
            states[src, dst, dport][State(state)] += count
        seconds: dict[Tuple3, Counter[int]] = {key: Counter() for key in keys}
        waiting = both(mask, self.time_wait)
        for (src, dst, dport, second), count in self._count_seconds(
            waiting, *columns(waiting)
        ).items():
            seconds[src, dst, dport][second] += count
        young: Counter[Tuple3] = Counter()
        expires = compress(table.expires, waiting)
        for key in compress(zip(*columns(waiting), strict=True), map(young_from.__lt__, expires)):
            young[key] += 1
        found = [Destination(*key, states[key], _history(seconds[key]), young[key]) for key in keys]
        return sorted(found, key=lambda d: (-d.sockets, d.source, d.address, d.port))

    def _history(self, mask: bytes) -> History:
        counts = self._count_seconds(mask)
        return _history(Counter({second: count for (second,), count in counts.items()}))

    def _count_seconds(self, mask: bytes, *columns: Iterable[int]) -> Counter[tuple[int, ...]]:
        """Count TIME_WAIT rows by these (already compressed) columns and the second they began."""
        expires: Iterable[int] = compress(self.table.expires, mask)
        if max(compress(self.table.expires, mask), default=0) >= _EXPIRES_END:
            expires = map(min, expires, repeat(_EXPIRES_END - 1))  # not what a kernel says
        return Counter(zip(*columns, map(_SECOND_OF.__getitem__, expires), strict=True))


def both(one: bytes, other: bytes) -> bytes:
    """Return the mask of rows that are in both masks.  C speed, by one large integer."""
    number = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def _without(one: bytes, other: bytes) -> bytes:
    number = int.from_bytes(one, "little")
    number &= ~int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def _marked(ports: Iterable[int], wanted: Collection[int]) -> bytes:
    """Return the mask of rows whose port is one of the wanted."""
    flags = bytearray(1 << 16)
    for port in wanted:
        flags[port] = 1
    return bytes(map(flags.__getitem__, ports))


def _history(seconds: Mapping[int, int]) -> History:
    newest_last = range(TIME_WAIT_SECONDS - 1, -1, -1)
    return History(tuple(seconds.get(n, 0) for n in newest_last), sum(seconds.values()))


def _median(values: Sequence[int]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2


def _listeners(table: SocketTable) -> dict[Endpoint, Listener]:
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


def is_loopback(table: SocketTable, address: int) -> bool:
    """Return whether an address number is 127.0.0.0/8 or ::1."""
    if is_ipv6(address):
        return table.addresses.text(address) == "::1"
    return address >> 24 == 127


def is_mini(table: SocketTable, row: int) -> bool:
    """Return whether a row is a mini-socket: TIME_WAIT, or FIN_WAIT2 after close()."""
    return table.timer[row] == TIMER_TIME_WAIT
