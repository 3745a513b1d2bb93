"""The socket table: every socket of a namespace in columns, so that 600,000 rows stay cheap.

A row is one socket.  A column is an `array`, filled by C-speed copies and grouped by C-speed
iteration; a `Socket` tuple is made only for the few rows that are shown.
"""

from __future__ import annotations

import sys
from array import array
from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.addresses import Addresses
from twdiag.census.columns import positions
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BOUND: Final = 13
"""Bound but neither listening nor connected: the kernel's TCP_BOUND_INACTIVE pseudo-state.

sock_diag selects such sockets by this state bit and reports them in state CLOSE (Linux 6.8).
"""

# Values of idiag_timer (net/ipv4/inet_diag.c) and of the `tr` field of /proc/net/tcp.
TIMER_NONE: Final = 0
TIMER_RETRANSMIT: Final = 1
TIMER_KEEPALIVE: Final = 2
TIMER_TIME_WAIT: Final = 3
TIMER_ZERO_WINDOW: Final = 4

_COLUMNS: Final = (
    "state",
    "timer",
    "retrans",
    "expires",
    "src",
    "dst",
    "sport",
    "dport",
    "recv_q",
    "send_q",
    "uid",
    "inode",
    "cookie",
)


class Socket(NamedTuple):
    """One row, readable.  Addresses are plain text, v4-mapped ones folded to IPv4.

    `expires` is the milliseconds until the timer fires; `recv_q` and `send_q` are bytes, except in
    LISTEN, where they are the accept queue and its backlog.
    """

    state: State
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    timer: int = TIMER_NONE
    expires: int = 0
    retrans: int = 0
    recv_q: int = 0
    send_q: int = 0
    uid: int = 0
    inode: int = 0
    cookie: int = 0


class SocketTable:
    """Sockets in columns.

    Columns, one entry a row: `state` (kernel number), `timer` (TIMER_*), `retrans`, `expires` (ms),
    `src`/`dst` (address numbers), `sport`/`dport` (host order), `recv_q`/`send_q`, `uid`, `inode`,
    `cookie`.  `bound` holds the rows of bound, unconnected sockets; `v6only` the listeners that
    take no IPv4.  A source that cannot fill a column records a gap and leaves zeros.
    """

    __slots__ = (
        "_loose",
        "addresses",
        "bound",
        "cookie",
        "dport",
        "dst",
        "expires",
        "inode",
        "mptcp",
        "recv_q",
        "retrans",
        "send_q",
        "sport",
        "src",
        "state",
        "timer",
        "uid",
        "v6only",
    )

    def __init__(self) -> None:
        self.addresses = Addresses()
        self.state = array("B")
        self.timer = array("B")
        self.retrans = array("B")
        self.expires = array("I")
        self.src = array("Q")
        self.dst = array("Q")
        self.sport = array("H")
        self.dport = array("H")
        self.recv_q = array("I")
        self.send_q = array("I")
        self.uid = array("I")
        self.inode = array("I")
        self.cookie = array("Q")
        self.bound: set[int] = set()
        self.v6only: set[int] = set()
        self.mptcp: set[int] = set()
        self._loose: list[tuple[int, int, int]] = []  # first row, place among the loose, rows

    def __len__(self) -> int:
        return len(self.state)

    def add(self, row: Socket) -> int:
        """Append one readable socket and return its row number.

        Raises ValueError, and leaves the table as it was, where a value fits no column.
        """
        index = len(self)
        try:
            self.state.append(row.state)
            self.timer.append(row.timer)
            self.retrans.append(min(row.retrans, 255))
            self.expires.append(min(row.expires, 0xFFFFFFFF))
            self.src.append(self.addresses.of_text(row.local_address))
            self.dst.append(self.addresses.of_text(row.remote_address))
            self.sport.append(row.local_port)
            self.dport.append(row.remote_port)
            self.recv_q.append(min(row.recv_q, 0xFFFFFFFF))
            self.send_q.append(min(row.send_q, 0xFFFFFFFF))
            self.uid.append(row.uid)
            self.inode.append(row.inode)
            self.cookie.append(row.cookie)
        except (ValueError, OverflowError) as error:
            self.cut(index)
            raise ValueError(f"not a socket: {row}") from error
        return index

    @classmethod
    def of(cls, rows: Iterable[Socket]) -> SocketTable:
        """Return a table of readable sockets."""
        table = cls()
        for row in rows:
            table.add(row)
        return table

    def row(self, index: int) -> Socket:
        """Return one row as a readable socket."""
        return Socket(
            State(self.state[index]),
            self.addresses.text(self.src[index]),
            self.sport[index],
            self.addresses.text(self.dst[index]),
            self.dport[index],
            self.timer[index],
            self.expires[index],
            self.retrans[index],
            self.recv_q[index],
            self.send_q[index],
            self.uid[index],
            self.inode[index],
            self.cookie[index],
        )

    def __iter__(self) -> Iterator[Socket]:
        return map(self.row, range(len(self)))

    def mask(self, *states: State) -> bytes:
        """Return one byte a row: 1 where its state is one of these, else 0.  C speed."""
        wanted = bytes(1 if number in states else 0 for number in range(256))
        return self.state.tobytes().translate(wanted)

    def rows_in(self, *states: State) -> list[int]:
        """Return the numbers of the rows in these states, ascending; cheap where they are few."""
        return list(positions(self.mask(*states)))

    def count_states(self) -> dict[State, int]:
        """Return how many sockets are in each state that occurs, bound ones left out."""
        raw = self.state.tobytes()
        counts = {state: raw.count(state) for state in State}
        counts[State.CLOSE] -= len(self.bound)
        return {state: count for state, count in counts.items() if count}

    def drop(self, rows: set[int]) -> None:
        """Remove rows (the few that a dump under load reports twice)."""
        if not rows:
            return
        self.settle()
        keep = bytearray(b"\x01") * len(self)
        for index in rows:
            keep[index] = 0
        moved = {old: new for new, old in enumerate(compress(range(len(self)), keep))}
        for name in _COLUMNS:
            self._compress(name, keep)
        self.bound = {moved[i] for i in self.bound if i in moved}
        self.v6only = {moved[i] for i in self.v6only if i in moved}
        self.mptcp = {moved[i] for i in self.mptcp if i in moved}

    def extend_closed(self, raws: list[bytes]) -> None:
        """Append the 16-byte remote addresses of closed connections, of very many of them loosely.

        None of them is v4-mapped or link-local.  settle() is to be called once all rows are there.
        """
        if not self.addresses.are_many:
            self.dst.extend(self.addresses.of_global(raws))
            return
        place = self.addresses.loosen(raws)
        self._loose.append((len(self.dst), place, len(raws)))
        self.dst.extend(self.addresses.of_loose(place, len(raws)))

    def settle(self) -> None:
        """Give the loose remote addresses with several rows one number each; see Addresses."""
        if self._loose:
            self.addresses.settle()
        for row, place, rows in self._loose:
            self.dst[row : row + rows] = array("Q", self.addresses.of_loose(place, rows))
        self._loose.clear()

    def cut(self, length: int) -> None:
        """Keep so many rows and remove the later ones."""
        for name in _COLUMNS:
            column: array[int] = getattr(self, name)
            del column[length:]
        gone = [place for row, place, _ in self._loose if row >= length]
        if gone:
            self.addresses.forget_loose(gone[0])
        self._loose = self._loose[: len(self._loose) - len(gone)]
        for rows in (self.bound, self.v6only, self.mptcp):
            rows.difference_update([row for row in rows if row >= length])

    def _compress(self, name: str, keep: bytearray) -> None:
        column: array[int] = getattr(self, name)
        setattr(self, name, array(column.typecode, compress(column, keep)))


def widen(words: array[int]) -> array[int]:
    """Return 32-bit words as a 64-bit column without making an object per row."""
    count = len(words)
    raw = bytearray(8 * count)
    with memoryview(raw).cast("I") as halves:
        halves[1 if sys.byteorder == "big" else 0 :: 2] = memoryview(words)
    return array("Q", raw)
