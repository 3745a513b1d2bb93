"""Who closes what: the socket table grouped by listener and by destination.

Everything here is worked out of one table and the port sysctls.  It runs over every row of hosts
with 600,000 TIME_WAITs, hence the masks and packed keys of twdiag.columns; objects are made for
groups, never for rows.
"""

from __future__ import annotations

from array import array
from collections import Counter
from functools import cached_property
from itertools import compress, islice, repeat
from typing import TYPE_CHECKING, Final

from twdiag.budget import PortBudget
from twdiag.columns import (
    both,
    looked_up,
    low_halves,
    low_words,
    packed,
    paired,
    positions,
    without,
)
from twdiag.groups import Destination, Endpoint, History, Listener, Server, history_of, listeners_of
from twdiag.table import TIMER_TIME_WAIT, is_ipv6
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twdiag.table import SocketTable

Tuple3 = tuple[int, int, int]
"""(source address number, destination address number, destination port)"""

# The second of the last minute in which a TIME_WAIT began, by its expires in ms: 0 is the newest.
# expires 0 means that it is past its 60 s and waits for the timer wheel (up to 2 s more): 60.
_DYING: Final = TIME_WAIT_SECONDS
_SECOND_OF: Final = (
    bytes([_DYING])
    + b"".join(bytes([second]) * 1000 for second in range(TIME_WAIT_SECONDS - 1, -1, -1))
    + bytes((1 << 16) - 1 - 1000 * TIME_WAIT_SECONDS)
)
_NO_SECOND: Final = 255
_USABLE, _LISTENING, _FIXED = 1, 2, 4
_HAS_BIT: Final = {
    bit: bytes(1 if number & bit else 0 for number in range(256))
    for bit in (_USABLE, _LISTENING, _FIXED)
}
_MOST_DESTINATIONS: Final = 250
"""How many destinations are looked at in detail: the largest; a byte numbers them."""
_FEW_SOCKETS: Final = 64
_MANY_ROWS: Final = 200_000
_SAMPLE: Final = 8_192
_BUCKETS: Final = 65_521  # a prime below 2**16, so that every part of a key counts


class Flows:
    """The groups of one table."""

    def __init__(self, table: SocketTable, sysctls: Mapping[str, str]) -> None:
        self.table = table
        self.listeners = listeners_of(table)
        self._ports = {port for _, port in self.listeners}
        blocked = self._ports | {table.sport[row] for row in table.bound}
        self.budget = PortBudget.of(sysctls, blocked)

    @cached_property
    def time_wait(self) -> bytes:
        """The mask of TIME_WAIT rows."""
        return self.table.mask(State.TIME_WAIT)

    @cached_property
    def _second(self) -> bytes:
        """For each row the second in which its TIME_WAIT began, _NO_SECOND for other states."""
        # Only the low half of expires is looked up: a TIME_WAIT has at most 60,000 ms left, and the
        # other states, whose keepalive timers run for hours, are masked out.
        seconds = looked_up(_SECOND_OF, low_halves(self.table.expires))
        waiting = self.time_wait.translate(b"\xff\x00" + bytes(254))
        number = int.from_bytes(seconds, "little") | int.from_bytes(waiting, "little")
        return number.to_bytes(len(seconds), "little")

    @cached_property
    def closes(self) -> History:
        """When every TIME_WAIT of the namespace began."""
        return history_of({n: self._second.count(n) for n in range(_DYING + 1)})

    @cached_property
    def _sources(self) -> tuple[list[int], array[int]]:
        """The distinct local addresses, and for each row the place of its own among them."""
        addresses = list(set(self.table.src))
        place = {address: number for number, address in enumerate(addresses)}
        if len(addresses) == 1:
            return addresses, array("H", bytes(2 * len(self.table)))
        if len(addresses) <= 256:
            return addresses, paired(bytes(len(self.table)), looked_up(place, self.table.src))
        # A host has far fewer than 65,536 local addresses; what is beyond shares the last place.
        return addresses, array("H", [min(place[address], 0xFFFF) for address in self.table.src])

    @cached_property
    def _local_keys(self) -> array[int]:
        """The local endpoint of each row as a number: place of the address << 16 | port."""
        raw = packed(None, self._sources[1], self.table.sport)
        return low_words(raw)

    @cached_property
    def _port_kinds(self) -> bytes:
        """For each row what its local port is: bits _USABLE, _LISTENING, _FIXED; one look-up."""
        budget = self.budget
        kinds = bytearray(budget.usable_mask)
        kinds[1 : budget.low] = bytes([_FIXED]) * (budget.low - 1)
        kinds[budget.high + 1 :] = bytes([_FIXED]) * (0xFFFF - budget.high)
        for port in self._ports:
            kinds[port] |= _LISTENING
        return looked_up(bytes(kinds), self.table.sport)

    @property
    def fixed_ports(self) -> bytes:
        """The mask of rows whose local port is outside of ip_local_port_range."""
        return self._port_kinds.translate(_HAS_BIT[_FIXED])

    @cached_property
    def _listening(self) -> bytes:
        return self._port_kinds.translate(_HAS_BIT[_LISTENING])

    @cached_property
    def _listening_keys(self) -> set[int]:
        return set(_chosen(self._local_keys, self._listening)) if 1 in self._listening else set()

    @cached_property
    def _listener_of(self) -> dict[int, Listener]:
        """The listener of each local endpoint (by its number) that has one."""
        addresses, found = self._sources[0], {}
        for key in self._listening_keys:
            listener = self.find_listener(addresses[key >> 16], key & 0xFFFF)
            if listener is not None:
                found[key] = listener
        return found

    @cached_property
    def server_side(self) -> bytes:
        """The mask of rows whose local address and port belong to a listener."""
        own = set(self._listener_of)
        if own == self._listening_keys:
            return self._listening
        # Some row has the port of a listener but an address that the listener does not take: an
        # outgoing connection that happens to use the same number.
        return bytes(map(own.__contains__, self._local_keys))

    @cached_property
    def client_side(self) -> bytes:
        """The mask of rows on a port that connect() may hand out: connections made by this host.

        An MPTCP connection is left out: its subflows are rows of their own and hold the ports.
        """
        client = without(self._port_kinds.translate(_HAS_BIT[_USABLE]), self.server_side)
        if not self.table.mptcp:
            return client
        mask = bytearray(client)
        for row in self.table.mptcp:
            mask[row] = 0
        return bytes(mask)

    def client_endpoints(self) -> set[Endpoint]:
        """Return the distinct local (address number, port) of the connections made by this host."""
        addresses = self._sources[0]
        keys = set(_chosen(self._local_keys, self.client_side))
        return {(addresses[key >> 16], key & 0xFFFF) for key in keys}

    def find_listener(self, address: int, port: int) -> Listener | None:
        """Return the listener that a local address and port belong to, the most specific first."""
        anywhere = self.table.addresses.of_bytes(bytes(16))
        for candidate in (address, 0, anywhere):
            listener = self.listeners.get((candidate, port))
            if listener is not None and listener.takes(address):
                return listener
        return None

    @cached_property
    def servers(self) -> list[Server]:
        """The listeners with sockets that this host closed first, the largest first."""
        closing = self.table.mask(State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2)
        mask = both(closing, self.server_side)
        if 1 not in mask:
            return []
        when = paired(self.table.state.tobytes(), self._second)
        keys = packed(self._local_keys, None, when)
        seconds: dict[Endpoint, Counter[int]] = {}
        states: dict[Endpoint, Counter[int]] = {}
        for key, count in Counter(_chosen(keys, mask)).items():
            listener = self._listener_of[key >> 32]
            endpoint = (listener.address, listener.port)
            states.setdefault(endpoint, Counter())[key >> 8 & 0xFF] += count
            if key & 0xFF != _NO_SECOND:
                seconds.setdefault(endpoint, Counter())[key & 0xFF] += count
        servers = [
            Server(
                self.listeners[endpoint],
                history_of(seconds.get(endpoint, {})),
                number[State.FIN_WAIT1],
                number[State.FIN_WAIT2],
            )
            for endpoint, number in states.items()
        ]
        return sorted(servers, key=lambda s: (-s.sockets, s.listener.port, s.listener.address))

    def clients_of(self, listener: Listener, most: int = 3) -> list[tuple[int, int]]:
        """Return (remote address, sockets) of a listener's closed connections, busiest first."""
        closing = self.table.mask(State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2)
        own = {key for key, found in self._listener_of.items() if found is listener}
        local = both(closing, _marked(self.table.sport, {listener.port}))
        if {key & 0xFFFF for key in self._listener_of if key not in own} & {listener.port}:
            local = both(local, bytes(map(own.__contains__, self._local_keys)))
        return Counter(_chosen(self.table.dst, both(local, self.server_side))).most_common(most)

    @cached_property
    def _remote_keys(self) -> array[int]:
        """(source, destination, port) of each row as a number; the source tells the family."""
        return packed(low_words(self.table.dst), self._sources[1], self.table.dport)

    @cached_property
    def connections(self) -> Counter[Tuple3]:
        """How many sockets this host's clients have to each (source, destination, port).

        On hosts with very many connections, destinations with so few sockets that no rule minds
        them are left out, so that memory stays bounded; `connections_left_out` counts their rows.
        """
        return Counter({self._tuple3(key): count for key, count in self._connections[0].items()})

    @property
    def connections_left_out(self) -> int:
        """Rows to destinations that `connections` does not tell apart."""
        return self._connections[1]

    @cached_property
    def _connections(self) -> tuple[Counter[int], int]:
        mask, keys = self.client_side, self._remote_keys
        rows = mask.count(1)
        sample = list(islice(_chosen(keys, mask), _SAMPLE))
        if rows <= _MANY_ROWS or 4 * len(set(sample)) < len(sample):
            return Counter(_chosen(keys, mask)), 0
        # A destination with many sockets makes its bucket of (address, port) large; the rest of
        # the rows need no key of their own.
        buckets = array("H", map(_BUCKETS.__rmod__, _chosen(keys, mask)))
        least = max(1, min(_FEW_SOCKETS, self.budget.ports // 20))
        heavy = {bucket for bucket, count in Counter(buckets).items() if count >= least}
        kept = compress(_chosen(keys, mask), map(heavy.__contains__, buckets))
        counts = Counter(kept)
        return counts, rows - sum(counts.values())

    def _tuple3(self, key: int) -> Tuple3:
        source = self._sources[0][key >> 16 & 0xFFFF]
        address = key >> 32 | (1 << 32 if is_ipv6(source) else 0)
        return source, address, key & 0xFFFF

    def destinations(self, at_least: int, reuse_delay_ms: int = 1000) -> list[Destination]:
        """Return the destinations with so many sockets or more, the largest first.

        `young` counts their TIME_WAITs younger than the delay before tcp_tw_reuse applies, in whole
        seconds rounded up.  At most _MOST_DESTINATIONS are returned.
        """
        largest = self._connections[0].most_common(_MOST_DESTINATIONS)
        chosen = [key for key, count in largest if count >= at_least]
        if not chosen:
            return []
        details = self._details
        young_seconds = -(-reuse_delay_ms // 1000)
        found = []
        for key in chosen:
            states, seconds = details[key]
            young = sum(count for second, count in seconds.items() if second < young_seconds)
            found.append(Destination(*self._tuple3(key), states, history_of(seconds), young))
        return sorted(found, key=lambda d: (-d.sockets, d.source, d.address, d.port))

    @cached_property
    def _details(self) -> dict[int, tuple[Counter[State], Counter[int]]]:
        """For each of the largest destinations: sockets per state, TIME_WAITs per second."""
        keys = [key for key, _ in self._connections[0].most_common(_MOST_DESTINATIONS)]
        number = {key: place for place, key in enumerate(keys)}
        mask = self.client_side
        other = len(keys)
        places = bytes(map(number.get, _chosen(self._remote_keys, mask), repeat(other)))
        states = bytes(_chosen(self.table.state, mask))
        seconds = bytes(_chosen(array("B", self._second), mask))
        details: dict[int, tuple[Counter[State], Counter[int]]] = {
            key: (Counter(), Counter()) for key in keys
        }
        for value, count in Counter(paired(places, states)).items():
            if value >> 8 < other:
                details[keys[value >> 8]][0][State(value & 0xFF)] += count
        for value, count in Counter(paired(places, seconds)).items():
            if value >> 8 < other and value & 0xFF != _NO_SECOND:
                details[keys[value >> 8]][1][value & 0xFF] += count
        return details

    @cached_property
    def _live(self) -> bytes:
        table = self.table
        live = table.mask(State.ESTABLISHED, State.SYN_SENT, State.CLOSE_WAIT, State.FIN_WAIT2)
        return both(live, self.client_side)

    def live_inodes(self, destination: Destination, most: int = 8) -> list[int]:
        """Return the inodes of a few live sockets to a destination.

        A TIME_WAIT has no owner any more; who holds its live siblings most likely made it.
        """
        table, found = self.table, []
        for row in positions(self._live):
            ends = (table.src[row], table.dst[row], table.dport[row])
            if ends == (destination.source, destination.address, destination.port):
                if table.inode[row]:
                    found.append(table.inode[row])
                if len(found) == most:
                    break
        return found


def _chosen(column: array[int], mask: bytes) -> Iterable[int]:
    """Return the values of a column in the rows of a mask."""
    return column if 0 not in mask else compress(column, mask)


def _marked(column: array[int], wanted: Iterable[int]) -> bytes:
    """Return the mask of rows whose port is one of the wanted."""
    flags = bytearray(1 << 16)
    for port in wanted:
        flags[port] = 1
    return looked_up(bytes(flags), column)


def is_loopback(table: SocketTable, address: int) -> bool:
    """Return whether an address number is 127.0.0.0/8 or ::1."""
    if is_ipv6(address):
        return table.addresses.text(address) == "::1"
    return address >> 24 == 127


def is_mini(table: SocketTable, row: int) -> bool:
    """Return whether a row is a mini-socket: TIME_WAIT, or FIN_WAIT2 after close()."""
    return table.timer[row] == TIMER_TIME_WAIT
