"""Takes in the sockets of one look, some thousands at a time, and adds them up.

A row is told apart by its local port (one that connect() hands out, a listener's, or another) and
counted: in a cell of its destination if this host's client made it, else in one of its local end.
All work on rows is done by calls of C over a batch: strided slices, itemgetter() with many items,
Counter.update() over compress().  Python objects are made for groups only.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from itertools import compress, repeat
from typing import TYPE_CHECKING, Final

from twdiag.census.cells import Cells, group_of, keys_of
from twdiag.census.listeners import (
    LISTENING,
    OTHER,
    PARTLY,
    USABLE,
    PortKinds,
    listeners_of,
    port_kinds,
)
from twdiag.census.masks import both, either, table_of
from twdiag.census.moments import moments_of
from twdiag.census.rows import Rows
from twdiag.model.ports import PortBudget
from twdiag.model.sockets import TIMER_RETRANSMIT, TIMER_TIME_WAIT
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twdiag.model.sockets import Socket

KEPT: Final = frozenset(
    {
        State.SYN_SENT,
        State.FIN_WAIT1,
        State.FIN_WAIT2,
        State.CLOSE_WAIT,
        State.LAST_ACK,
        State.CLOSING,
        State.CLOSE,
    }
)
"""Connected sockets in these states are kept one by one, unless they are mini-sockets."""

REPEATED: Final = 3
"""A live connection that has sent its data again so often is kept one by one too."""

CLIENTS_FROM: Final = 40 << 8
"""A remote port from 10240 on is a client's; its high byte tells.

Linux hands out 32768-60999, IANA and Windows 49152-65535, BSD from 10000.
"""

NAME_BYTES: Final = 22
"""The name of an IPv6 group: the number of the local address, and the remote address."""

LAST_TAG: Final = 255
"""The tag of an IPv4 client is the number of its local address; this one stands for all others."""

_ADDRESSES: Final = 0xFFFF
_ALL_CLIENTS: Final = 1 << 14
_ONE_IN: Final = 8
_MOST_INODES: Final = 65_536
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


_IS_CLIENT, _IS_OTHER = table_of(USABLE), table_of(OTHER)
_IS_SERVER: Final = table_of(LISTENING, PARTLY)
_IS_UNCLAIMED: Final = table_of(OTHER, PARTLY)
_IS_FAR: Final = table_of(*range(CLIENTS_FROM >> 8, 256))
_IS_NEAR: Final = table_of(*range(CLIENTS_FROM >> 8))
_IS_ESTABLISHED: Final = table_of(State.ESTABLISHED)
_IS_MINI: Final = table_of(TIMER_TIME_WAIT)


class Numbers(dict["int | bytes", int]):
    """Numbers for local addresses, 0 for the first; beyond 65,535 of them all others share one."""

    def __missing__(self, address: int | bytes) -> int:
        number = min(len(self), _ADDRESSES)
        if number < _ADDRESSES:
            self[address] = number
        return number


class Intake:
    """What a look adds up to so far.

    `listening` are the listeners and the bound, unconnected sockets of the namespace: which side a
    row belongs to depends on them, so they come first.  `sysctls` give the range of ports that
    connect() hands out.
    """

    def __init__(self, listening: Iterable[Socket], sysctls: Mapping[str, str]) -> None:
        self.listening = tuple(listening)
        self.listeners = listeners_of(s for s in self.listening if s.state is State.LISTEN)
        taken = {socket.local_port for socket in self.listening}
        self.budget = PortBudget.of(sysctls, taken)
        listeners = self.listeners.values()
        self.ports_ipv4 = PortKinds(port_kinds(self.budget, listeners, ipv6=False))
        self.ports_ipv6 = PortKinds(port_kinds(self.budget, listeners, ipv6=True))
        self.numbers = Numbers()
        self.local = Cells()
        """Rows on listeners' ports, by port and number of the address."""
        self.remote: dict[int, Cells] = {}
        """IPv4 rows of clients by destination; for each 256 local addresses cells of their own."""
        self.remote_ipv6 = Cells(NAME_BYTES)
        self.other, self.fixed = Counter[int](), Counter[int]()
        """The moments of rows on other ports, and of those of them that go to services."""
        self.clients, self.clients_ipv6 = Cells(), Cells(NAME_BYTES)
        """The remote addresses of servers' closed connections, by the server's local end."""
        self.served = self.sampled = 0
        """How many such rows there were, and of how many the client was counted."""
        self.unclaimed = array("Q")
        """Rows of no listener that may be left of a service: moment, local port, and above them
        remote port and number of the address.  On a port that connect() hands out, only those with
        a remote port that clients have."""
        self.local_ports, self.local_numbers = array("H"), array("I")
        """The local end of each row that takes part in a port budget, or of a server."""
        self.inodes: dict[int | None, dict[int, int]] = {}
        """A live socket's by group, for each page of `remote`; those of IPv6 under None."""
        self.examples: dict[State, Socket] = {}
        self._kept: dict[int | tuple[int, ...], Socket] = {}
        self._batches = 0

    def keep(self, socket: Socket) -> None:
        """Take in one socket that is kept; one that a dump repeats counts once."""
        # Readers that show no cookies do not repeat rows either.
        self._kept[socket.cookie or (0, len(self._kept))] = socket

    def has_kept(self, cookie: int) -> bool:
        """Return whether a socket with this cookie is kept."""
        return cookie in self._kept

    def unaccepted(self) -> list[Socket]:
        """Return the kept connections that are live and wait for accept()."""
        live = (s for s in self._kept.values() if s.state is State.ESTABLISHED)
        return [s for s in live if not s.inode]

    def has_half_closed(self) -> bool:
        """Return whether a socket is kept whose age matters."""
        return any(s.state in (State.CLOSE_WAIT, State.FIN_WAIT2) for s in self._kept.values())

    def take(self, socket: Socket) -> None:
        """Take in one readable, connected socket of any state."""
        self.examples.setdefault(socket.state, socket)
        kept = socket.state in KEPT and not socket.is_mini
        if kept or _waits_for_accept(socket) or _repeats_data(socket):
            self.keep(socket)
        else:
            self.add(Rows.of(socket))

    def settle_kept(self) -> tuple[Socket, ...]:
        """Count the kept sockets with the others, and return them."""
        kept, self._kept = tuple(self._kept.values()), {}
        for socket in kept:
            self.examples.setdefault(socket.state, socket)
            self.add(Rows.of(socket), mptcp=socket.mptcp)
        return (*self.listening, *kept)

    def add(self, rows: Rows, *, mptcp: bool = False) -> None:
        """Count some rows.

        An MPTCP connection is no client's: its subflows are rows of their own and hold the ports.
        A row that a dump repeats is counted twice.  That takes a bucket of very many sockets: while
        others came and went, 1 of 94,000 rows was repeated in a hash table of 512 buckets and none
        of 15 million in one of 262,144.  To look for them would cost each row a tenth more.
        """
        moments = moments_of(rows.states, rows.timers, rows.expires)
        ports = self.ports_ipv6 if isinstance(rows.remote, list) else self.ports_ipv4
        kinds = ports.kinds_of(rows.local_ports)
        numbers = self._numbers_of(rows.local)
        if mptcp:
            self._add_local(rows, moments, numbers, b"\x01" * len(kinds))
            return
        client, server = kinds.translate(_IS_CLIENT), kinds.translate(_IS_SERVER)
        if 1 in server:
            self._add_local(rows, moments, numbers, server)
        if 1 in client:
            self._add_remote(rows, moments, numbers, client)
            self.local_ports.extend(rows.local_ports)
            self.local_numbers.extend(numbers)
        if OTHER in kinds:
            self._count_other(rows, moments, kinds.translate(_IS_OTHER))
        self._note_unclaimed(rows, moments, numbers, kinds)

    def _numbers_of(self, local: array[int] | list[bytes]) -> array[int]:
        """Return the numbers of local addresses; most often it is one and the same."""
        first = local[:1]
        if local == first * len(local):
            return array("I", [self.numbers[first[0]]]) * len(local)
        return array("I", map(self.numbers.__getitem__, local))

    def _add_local(self, rows: Rows, moments: bytes, numbers: array[int], mask: bytes) -> None:
        """Count the rows of a mask by their local end, and the clients of those that ended."""
        keys = keys_of(moments, bytes(len(moments)), rows.local_ports, numbers)
        self.local.add(keys, mask)
        closed = rows.timers.translate(_IS_MINI)
        if 1 in closed:
            self._sample_clients(rows, numbers, both(closed, mask))

    def _add_remote(self, rows: Rows, moments: bytes, numbers: array[int], mask: bytes) -> None:
        """Count the rows of a mask by destination."""
        if isinstance(rows.remote, list):
            names = list(map(bytes.__add__, _two_bytes(numbers), rows.remote))
            keys = _keys_by_hash(moments, rows.remote_ports, names)
            self.remote_ipv6.add(keys, mask, names)
            self._note_inodes(rows, None, keys, mask)
            return
        pages = numbers.tobytes()[1 + _LOW :: 4]
        keys = keys_of(moments, _tags(numbers), rows.remote_ports, rows.remote)
        for page in set(pages):
            here = (
                mask
                if pages.count(page) == len(pages)
                else both(mask, pages.translate(table_of(page)))
            )
            if 1 in here:
                self.remote.setdefault(page, Cells()).add(keys, here)
                self._note_inodes(rows, page, keys, here)

    def _sample_clients(self, rows: Rows, numbers: array[int], server: bytes) -> None:
        """Count the clients of servers; of very many rows an eighth tells enough."""
        count = server.count(1)
        self.served += count
        self._batches += 1
        if not count or (self.sampled >= _ALL_CLIENTS and self._batches % _ONE_IN):
            return
        self.sampled += count
        nothing = bytes(len(server))
        if isinstance(rows.remote, list):
            names = list(map(bytes.__add__, _two_bytes(numbers), rows.remote))
            self.clients_ipv6.add(_keys_by_hash(nothing, rows.local_ports, names), server, names)
        else:
            few = len(self.numbers) <= LAST_TAG
            tags = _tags(numbers) if few else bytes(map(min, numbers, repeat(LAST_TAG)))
            keys = keys_of(nothing, tags, rows.local_ports, rows.remote)
            self.clients.add(keys, server)

    def _note_inodes(self, rows: Rows, page: int | None, keys: array[int], client: bytes) -> None:
        """Keep an inode for each destination: who holds it may be who connects there."""
        live = both(client, rows.states.translate(_IS_ESTABLISHED))
        if 1 in live and sum(map(len, self.inodes.values())) < _MOST_INODES:
            groups = map(group_of, compress(keys, live))
            here = self.inodes.setdefault(page, {})
            here.update(zip(groups, compress(rows.inodes, live), strict=True))

    def _count_other(self, rows: Rows, moments: bytes, mask: bytes) -> None:
        self.other.update(compress(moments, mask))
        near = both(_high_bytes(rows.remote_ports).translate(_IS_NEAR), mask)
        self.fixed.update(compress(moments, near))

    def _note_unclaimed(
        self, rows: Rows, moments: bytes, numbers: array[int], kinds: bytes
    ) -> None:
        far = _high_bytes(rows.remote_ports).translate(_IS_FAR)
        left = either(both(far, kinds.translate(_IS_CLIENT)), kinds.translate(_IS_UNCLAIMED))
        if 1 in left:
            above = _joined(rows.remote_ports, numbers)
            keys = keys_of(moments, bytes(len(kinds)), rows.local_ports, above)
            self.unclaimed.extend(compress(keys, left))


def _waits_for_accept(socket: Socket) -> bool:
    """Return whether it is live and no process holds it; a reader may show no inodes at all."""
    return socket.state is State.ESTABLISHED and not socket.inode and socket.info is not None


def _repeats_data(socket: Socket) -> bool:
    """Return whether it is live and its peer does not acknowledge what it sent again and again."""
    repeats = socket.timer == TIMER_RETRANSMIT and socket.retrans >= REPEATED
    return repeats and socket.state is State.ESTABLISHED


def _high_bytes(ports: array[int]) -> bytes:
    return ports.tobytes()[_HIGH::2]


def _tags(numbers: array[int]) -> bytes:
    """Return the lowest byte of each number."""
    return numbers.tobytes()[3 * _LOW :: 4]


def _two_bytes(column: array[int]) -> Iterator[bytes]:
    known = {value: value.to_bytes(2, "big") for value in set(column)}
    return map(known.__getitem__, column)


def _joined(low: array[int], numbers: array[int]) -> array[int]:
    """Return words of 32 bits: a column of 16 bits, and above it the low half of numbers."""
    halves = array("H", numbers.tobytes())
    halves[_HIGH::2], halves[_LOW::2] = halves[_LOW::2], low
    return array("I", halves.tobytes())


def _keys_by_hash(moments: bytes, ports: array[int], names: list[bytes]) -> array[int]:
    """Return keys with 40 bits of a hash in place of tag and address.

    Of 600,000 names two of the same port share a hash with a probability of one in six.
    """
    raw = array("q", map(hash, names)).tobytes()
    words = array("I", raw)
    return keys_of(moments, raw[4 - _LOW :: 8], ports, words[_LOW::2])
