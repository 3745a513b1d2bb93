"""Who closes what: the socket table grouped by listener and by destination.

Everything here is worked out of one table and the port sysctls.  It runs over every row of hosts
with 600,000 TIME_WAITs, hence the masks and packed keys of census.columns; objects are made for
groups, never for rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import is_ipv6
from twdiag.census.client_rows import FIRST_PLACE, ClientRows
from twdiag.census.columns import (
    both,
    chosen,
    counts_of,
    distinct_low_words,
    either,
    kept,
    looked_up,
    low_words,
    ones,
    packed,
    paired,
    plane_of,
    planes_of,
    positions,
    whole_seconds,
    without,
)
from twdiag.census.connections import NOT_TIMED, Connections
from twdiag.census.groups import (
    Destination,
    Endpoint,
    History,
    Listener,
    Server,
    history_of,
    listeners_of,
)
from twdiag.census.port_kinds import FIXED, LISTENING, USABLE, PortKinds, only
from twdiag.census.table import TIMER_TIME_WAIT
from twdiag.model.ports import PortBudget
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping

    from twdiag.census.connections import Tuple3
    from twdiag.census.table import SocketTable

# The second of the last minute in which a TIME_WAIT began, by its expires in whole seconds rounded
# up: 0 is the newest.  expires 0 means that it is past its 60 s and waits for the timer wheel, up
# to 2 s more: 60.
_DYING: Final = TIME_WAIT_SECONDS
_SECOND_OF: Final = bytes(max(0, TIME_WAIT_SECONDS - left) for left in range(256))
_MOMENT_OF_STATE: Final = bytes(
    0 if number == State.TIME_WAIT else NOT_TIMED | number & 0x7F for number in range(256)
)
_SAMPLE: Final = 8_192
_NOT_USABLE: Final = bytes(0 if kind == USABLE else kind for kind in range(256))
_FEW_ADDRESSES: Final = 64


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
    def _moments(self) -> bytes:
        """For each row the second in which its TIME_WAIT began, or NOT_TIMED + its state."""
        # Of expires only the low half counts: a TIME_WAIT has at most 60,000 ms left, and the other
        # states, whose keepalive timers run for hours, are masked out.
        seconds = whole_seconds(self.table.expires).translate(_SECOND_OF)
        timed = kept(seconds, self.time_wait)
        others = self.table.state.tobytes().translate(_MOMENT_OF_STATE)
        return either(timed, others)

    @cached_property
    def _kinds(self) -> PortKinds:
        # The busiest ports first, as far as a sample shows, since not all may get a number.
        ports = self.table.sport[:: len(self.table) // _SAMPLE | 1]
        seen = Counter(filter(self._ports.__contains__, ports))
        return PortKinds(self.budget, sorted(self._ports, key=lambda port: (-seen[port], port)))

    @cached_property
    def _kind_of_row(self) -> bytes:
        # An IPv6 address has a number from 2**32 up, see Addresses.
        return self._kinds.of(self.table.sport, plane_of(self.table.src, 4))

    @cached_property
    def _groups(self) -> dict[int, Counter[int]]:
        """The moments of the rows in each group, so that every row is counted once.

        A group is a frequent destination, or else the kind of the local port.
        """
        # The rows of a destination have the one kind USABLE, which nobody asks for.
        groups = either(self._kind_of_row.translate(_NOT_USABLE), self._client_rows.places)
        found: dict[int, Counter[int]] = defaultdict(Counter)
        for cell, count in Counter(paired(groups, self._moments)).items():
            found[cell >> 8][cell & 0xFF] = count
        return found

    @cached_property
    def closes(self) -> History:
        """When every TIME_WAIT of the namespace began."""
        groups = list(self._groups.values())
        seconds = range(_DYING + 1)
        return history_of({s: sum([moments.get(s, 0) for moments in groups]) for s in seconds})

    @property
    def fixed_ports(self) -> bytes:
        """The mask of rows whose local port is outside of ip_local_port_range."""
        return self._kind_of_row.translate(self._kinds.having(FIXED))

    @cached_property
    def _listening(self) -> bytes:
        return self._kind_of_row.translate(self._kinds.having(LISTENING))

    @cached_property
    def _unconnected(self) -> bytes:
        return self.table.mask(State.LISTEN, State.CLOSE)

    @cached_property
    def _local_addresses(self) -> list[int]:
        """The distinct local addresses, without the wildcards, which no connection has."""
        # The low 32 bits of an address number tell it whole: those of IPv6 are counted from 0 up,
        # and no connected socket has an IPv4 address that low.
        ipv6 = self.table.addresses.ipv6_count
        words = sorted(distinct_low_words(self.table.src))
        addresses = [word | 1 << 32 if word < ipv6 else word for word in words]
        wildcards = (0, self.table.addresses.of_bytes(bytes(16)))
        return [address for address in addresses if address not in wildcards]

    @cached_property
    def _sole_listeners(self) -> dict[int, Listener]:
        """For kinds of port whose connections are all one listener's: that listener."""
        if len(self._local_addresses) > _FEW_ADDRESSES:
            return {}
        found = {}
        connected = without(b"\x01" * len(self._unconnected), self._unconnected)
        present = set(kept(self._kind_of_row, connected))
        for family in (0, 1):
            addresses = [address for address in self._local_addresses if address >> 32 == family]
            for port, kind in self._kinds.number.items():
                if kind + family not in present:
                    continue
                listeners = {self.find_listener(address, port) for address in addresses}
                if len(listeners) == 1 or (len(listeners) == 2 and None in listeners):
                    listener = next(filter(None, listeners), None)
                    if listener and (len(listeners) == 1 or self._has_all(listener, kind + family)):
                        found[kind + family] = listener
        return found

    def _has_all(self, listener: Listener, kind: int) -> bool:
        """Return whether all connected rows of a kind have the address of a listener."""
        rows = without(self._kind_of_row.translate(only({kind})), self._unconnected)
        address = listener.address & 0xFFFFFFFF
        return counts_of([address], self._local_planes, rows) == [ones(rows)]

    @cached_property
    def _at_shared_ports(self) -> Counter[int]:
        """Connected rows on ports with several listeners by (local address, port, moment)."""
        shared = without(self._listening, self._kind_of_row.translate(only(self._sole_listeners)))
        rows = without(shared, self._unconnected)
        if 1 not in rows:
            return Counter()
        columns = [self.table.src, self.table.sport, paired(bytes(len(rows)), self._moments)]
        few = 8 * ones(rows) < len(rows)
        if few:  # then picking them is cheaper than packing whole columns
            columns = [chosen(column, rows) for column in columns]
        keys = packed(low_words(columns[0]), columns[1], columns[2])
        return Counter(keys if few else chosen(keys, rows))

    @cached_property
    def _listener_of(self) -> dict[int, Listener | None]:
        """The listener of each local endpoint (address << 16 | port) on such a port."""
        ipv6 = self.table.addresses.ipv6_count
        found = {}
        for endpoint in {key >> 16 for key in self._at_shared_ports}:
            low = endpoint >> 16
            address = low | 1 << 32 if low < ipv6 else low
            found[endpoint] = self.find_listener(address, endpoint & 0xFFFF)
        return found

    @cached_property
    def server_side(self) -> bytes:
        """The mask of rows whose local address and port belong to a listener."""
        if all(self._listener_of.values()):
            return self._listening
        # Some row has the port of a listener but an address that the listener does not take: an
        # outgoing connection that happens to use the same number.
        own = {endpoint for endpoint, listener in self._listener_of.items() if listener}
        sole = self._kind_of_row.translate(only(self._sole_listeners))
        return either(either(self._of(own), sole), both(self._listening, self._unconnected))

    def _of(self, endpoints: set[int]) -> bytes:
        """Return the mask of connected rows at these local endpoints."""
        table = self.table
        wanted = {endpoint << 16 for endpoint in endpoints}
        keys = packed(low_words(table.src), table.sport, None)
        return without(bytes(map(wanted.__contains__, keys)), self._unconnected)

    @cached_property
    def client_side(self) -> bytes:
        """The mask of rows on a port that connect() may hand out: connections made by this host.

        An MPTCP connection is left out: its subflows are rows of their own and hold the ports.
        """
        client = without(self._kind_of_row.translate(self._kinds.having(USABLE)), self.server_side)
        if not self.table.mptcp:
            return client
        mask = bytearray(client)
        for row in self.table.mptcp:
            mask[row] = 0
        return bytes(mask)

    @cached_property
    def _client_rows(self) -> ClientRows:
        return ClientRows(self.table, self.client_side, self._local_addresses)

    @cached_property
    def _clients(self) -> Connections:
        rows = self._client_rows
        frequent = {key: self._groups[n] for n, key in enumerate(rows.frequent, FIRST_PLACE)}
        return Connections(rows, frequent, rows.others(self._moments), self.budget)

    def client_ports(self) -> dict[int, set[int]]:
        """Return the distinct local ports of the connections made from each local address."""
        return self._clients.local_ports()

    def remote_ends_of_left_overs(self, clients_from: int, surely: int) -> dict[int, set[int]]:
        """Return the remote ports from `clients_from` on of local ports that no listener has.

        Of the ephemeral local ports only those with `surely` remote ports or more are looked at.
        """
        connected = without(self.fixed_ports, either(self.server_side, self._unconnected))
        may_be_services = 1 in connected
        remote = self._clients.remote_ports()
        if sum(1 for port in remote if port >= clients_from) >= surely:
            connected, may_be_services = either(connected, self.client_side), True
        if not may_be_services:
            return {}
        far = bytes(clients_from) + b"\x01" * ((1 << 16) - clients_from)
        mask = both(connected, looked_up(far, self.table.dport))
        ends = packed(None, self.table.sport, self.table.dport)
        found: dict[int, set[int]] = {}
        for key in set(_chosen(ends, mask)):
            found.setdefault(key >> 16, set()).add(key & 0xFFFF)
        return found

    def left_over_rows(self, port: int) -> list[int]:
        """Return the connected rows of a local port that belong to no listener."""
        at_port = _marked(self.table.sport, port)
        return list(positions(without(at_port, either(self.server_side, self._unconnected))))

    @cached_property
    def connections(self) -> Counter[Tuple3]:
        """How many sockets this host's clients have to each (source, destination, port)."""
        return self._clients.by_destination()

    def busiest_destination(self) -> tuple[Tuple3, int] | None:
        """Return the destination with the most sockets, and how many; None without any."""
        return self._clients.busiest()

    def fullest_by_source(self) -> dict[int, int]:
        """Return the most sockets to one destination from each source address."""
        return self._clients.fullest_by_source()

    @property
    def connections_left_out(self) -> int:
        """Rows to destinations too small, on a host too large, to be told apart."""
        return self._clients.left_out

    def destinations(self, at_least: int, reuse_delay_ms: int = 1000) -> list[Destination]:
        """Return the destinations with so many sockets or more, the largest first."""
        return self._clients.destinations(at_least, reuse_delay_ms)

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
        moments: dict[Endpoint, Counter[int]] = {}
        for kind, listener in self._sole_listeners.items():
            moments.setdefault((listener.address, listener.port), Counter()).update(
                self._groups[kind]
            )
        for key, count in self._at_shared_ports.items():
            found = self._listener_of[key >> 16]
            if found is not None:
                moments.setdefault((found.address, found.port), Counter())[key & 0xFF] += count
        servers = [
            Server(
                self.listeners[endpoint],
                history_of({n: count for n, count in counts.items() if n < NOT_TIMED}),
                counts[NOT_TIMED + State.FIN_WAIT1],
                counts[NOT_TIMED + State.FIN_WAIT2],
            )
            for endpoint, counts in moments.items()
        ]
        closing = [server for server in servers if server.sockets]
        return sorted(closing, key=lambda s: (-s.sockets, s.listener.port, s.listener.address))

    def clients_of(self, listener: Listener, most: int = 3) -> list[tuple[int, int]]:
        """Return (remote address, sockets) of a listener's closed connections, busiest first."""
        table = self.table
        closing = table.mask(State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2)
        mask = both(closing, self._at(listener))
        # A busy client is in any sample, and counting every client of a busy server would take more
        # memory than all the rest.  One more than asked for, since a sample can mistake the last.
        rows = ones(mask)
        if rows <= _SAMPLE:
            return Counter(chosen(table.dst, mask)).most_common(most)
        step = rows // _SAMPLE | 1  # odd, lest it meet only one half of rows that take turns
        sample = Counter(compress(table.dst[::step], mask[::step]))
        addresses = [address for address, _ in sample.most_common(most + 1)]
        words = [address & 0xFFFFFFFF for address in addresses]
        exact = zip(addresses, counts_of(words, self._remote_planes, mask), strict=True)
        return sorted(exact, key=lambda found: -found[1])[:most]

    @cached_property
    def _local_planes(self) -> list[bytes]:
        return planes_of(self.table.src, 4)

    @cached_property
    def _remote_planes(self) -> list[bytes]:
        return planes_of(self.table.dst, 4)

    def _at(self, listener: Listener) -> bytes:
        """Return the mask of connected rows that belong to a listener."""
        kinds = {kind for kind, found in self._sole_listeners.items() if found == listener}
        rows = without(self._kind_of_row.translate(only(kinds)), self._unconnected)
        shared = {key for key, found in self._listener_of.items() if found == listener}
        return either(rows, self._of(shared)) if shared else rows

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


def _marked(column: array[int], port: int) -> bytes:
    """Return the mask of rows with a port."""
    flags = bytearray(1 << 16)
    flags[port] = 1
    return looked_up(bytes(flags), column)


def _chosen(column: array[int], mask: bytes) -> Iterable[int]:
    """Return the values of a column in the rows of a mask."""
    return column if 0 not in mask else compress(column, mask)


def is_loopback(table: SocketTable, address: int) -> bool:
    """Return whether an address number is 127.0.0.0/8 or ::1."""
    if is_ipv6(address):
        return table.addresses.text(address) == "::1"
    return address >> 24 == 127


def is_mini(table: SocketTable, row: int) -> bool:
    """Return whether a row is a mini-socket: TIME_WAIT, or FIN_WAIT2 after close()."""
    return table.timer[row] == TIMER_TIME_WAIT
