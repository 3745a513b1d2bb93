"""A block of equally long rows as the kernel wrote them, and its way into an intake.

A row is a netlink header and struct inet_diag_msg (include/uapi/linux/inet_diag.h), then its
attributes; columns are 32-bit words, counted from the header on.
"""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import compress
from operator import or_
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import MAPPED, is_link_local, text_of
from twdiag.census.intake import KEPT, REPEATED
from twdiag.census.masks import both, either, inverted, table_of
from twdiag.census.rows import Rows
from twdiag.errors import SourceError
from twdiag.model.sockets import BOUND, TIMER_RETRANSMIT, TIMER_TIME_WAIT, Socket, TcpInfo
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from twdiag.census.intake import Intake

ROW_BYTES: Final = 88

_AF_INET: Final = 2
_AF_INET6: Final = 10
_KIND, _PORTS, _LOCAL, _REMOTE, _INTERFACE, _EXPIRES, _INODE = 4, 5, 6, 10, 14, 17, 21
_MAPPED_WORDS: Final = struct.unpack("=3I", MAPPED)
# family, state, timer, retrans; ports; addresses; interface, cookie, expires, queues, uid, inode
_ROW: Final = struct.Struct("=16x4B4s16s16sIQ5I")
_PORT_PAIR: Final = struct.Struct("!2H")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INFO, _V6ONLY, _CGROUP = 2, 11, 21
# last_data_sent, last_ack_sent, last_data_recv, last_ack_recv: struct tcp_info, uapi/linux/tcp.h
_AGES: Final = struct.Struct("=44x4I")
_CGROUP_ID: Final = struct.Struct("=Q")
_FAMILIES: Final = bytes([_AF_INET, _AF_INET6])
_STATES: Final = bytes(range(1, 14))
# A connection being opened has its own pseudo-state (12, NEW_SYN_RECV) to the kernel only.
_STATE_OF: Final = bytes({12: State.SYN_RECV, BOUND: State.CLOSE}.get(n, n) for n in range(256))
_STATE: Final = {number: State(_STATE_OF[number]) for number in _STATES}
_IS_KEPT: Final = table_of(*KEPT)
_IS_FULL: Final = inverted(table_of(TIMER_TIME_WAIT))
_IS_IPV4: Final = table_of(_AF_INET)
_IS_ESTABLISHED: Final = table_of(State.ESTABLISHED)
_IS_RETRANSMIT: Final = table_of(TIMER_RETRANSMIT)
_IS_OFTEN: Final = table_of(*range(REPEATED, 256))
_COUNTED: Final = (State.TIME_WAIT, State.ESTABLISHED, State.FIN_WAIT2, State.SYN_RECV)


class Block:
    """Rows of `length` bytes each, one behind the other; columns are copied out at C speed."""

    def __init__(self, raw: bytes | bytearray | memoryview, length: int) -> None:
        self.words = array("I")
        self.words.frombytes(raw)
        self.length = length
        self.step = length // 4
        self.size = len(self.words) // self.step
        self._kinds: tuple[bytes, bytes, bytes] | None = None

    def column(self, word: int) -> array[int]:
        """Return one 32-bit word of each row, as it stands there."""
        return self.words[word :: self.step]

    def has_alike_heads(self) -> bool:
        """Return whether all rows have the length, type, flags and dump of the first one."""
        heads = [self.column(word) for word in range(3)]
        return all(head == head[:1] * self.size for head in heads)

    def kinds(self) -> tuple[bytes, bytes, bytes]:
        """Return family, state and timer of each row.

        Raises SourceError where a row has a family or a state that no socket has.
        """
        if self._kinds is not None:
            return self._kinds
        raw = self.column(_KIND).tobytes()
        families, states, timers = raw[0::4], raw[1::4], raw[2::4]
        for family in families.translate(None, _FAMILIES):
            raise SourceError(f"a socket row has the unknown address family {family}")
        for state in states.translate(None, _STATES):
            raise SourceError(f"a socket row has the unknown state {state}")
        self._kinds = families, states.translate(_STATE_OF), timers
        return self._kinds

    def retransmissions(self) -> bytes:
        """Return how often each row's timer has fired without an answer."""
        return self.column(_KIND).tobytes()[3::4]

    def ports(self) -> tuple[array[int], array[int]]:
        """Return the local and the remote port of each row."""
        halves = array("H", self.column(_PORTS).tobytes())
        local, remote = halves[0::2], halves[1::2]
        if sys.byteorder == "little":
            local.byteswap()
            remote.byteswap()
        return local, remote

    def is_mapped(self, word: int) -> bytes:
        """Return the mask of rows whose four words from this one on are a v4-mapped address."""
        heads = [self.column(word + part) for part in range(3)]
        if MAPPED[8:] not in heads[2].tobytes():  # the quick answer, and mostly the right one
            return bytes(self.size)
        if all(
            head == array("I", [value]) * self.size
            for head, value in zip(heads, _MAPPED_WORDS, strict=True)
        ):
            return b"\x01" * self.size
        return bytes(map(_MAPPED_WORDS.__eq__, zip(*heads, strict=True)))

    def parted(self, mask: bytes) -> tuple[Block, Block]:
        """Return the rows of a mask, and the others."""
        rows = [row for (row,) in struct.iter_unpack(f"{self.length}s", self.words)]
        one, other = compress(rows, mask), compress(rows, inverted(mask))
        return Block(b"".join(one), self.length), Block(b"".join(other), self.length)

    def socket(self, number: int) -> Socket:
        """Return one row, readable."""
        return socket_of(self.words[number * self.step : (number + 1) * self.step].tobytes())

    def with_inodes(self, wanted: Collection[int]) -> Iterator[Socket]:
        """Yield the rows with one of these inodes; raises SourceError as kinds() does."""
        self.kinds()
        rows = compress(range(self.size), map(wanted.__contains__, self.column(_INODE)))
        return map(self.socket, rows)

    def states_of(self, wanted: Collection[int]) -> Iterator[tuple[int, int]]:
        """Yield inode and state of the rows with one of these inodes; raises as kinds() does."""
        _, states, _ = self.kinds()
        inodes = self.column(_INODE)
        return compress(zip(inodes, states, strict=True), map(wanted.__contains__, inodes))

    def sockets(self, ports: Collection[int] = ()) -> Iterator[Socket]:
        """Yield all rows, readable, or those with one of some ports at either end.

        Raises SourceError as kinds() does.
        """
        self.kinds()
        raw = self.words.tobytes()
        places: Iterable[int] = range(0, len(raw), self.length)
        if ports:
            local, remote = (map(ports.__contains__, column) for column in self.ports())
            places = compress(places, map(or_, local, remote))
        return (socket_of(raw[at : at + self.length]) for at in places)


def socket_of(raw: bytes) -> Socket:
    """Return a row as a readable socket."""
    fields = _ROW.unpack_from(raw)
    family, state, timer, retrans, ports, local, remote, interface, cookie, *numbers = fields
    expires, recv_q, send_q, uid, inode = numbers
    if family == _AF_INET:
        local, remote = local[:4], remote[:4]
    local_port, remote_port = _PORT_PAIR.unpack(ports)
    v6only, cgroup, info = _attributes(raw)
    return Socket(
        _STATE[state],
        text_of(local, interface),
        local_port,
        text_of(remote, interface),
        remote_port,
        timer,
        expires,
        retrans,
        recv_q,
        send_q,
        uid,
        inode,
        cookie,
        bound=state == BOUND or (state == State.CLOSE and not remote_port),
        v6only=v6only,
        cgroup=cgroup,
        info=info,
    )


def _attributes(raw: bytes) -> tuple[bool, int, TcpInfo | None]:
    """Return (IPV6_V6ONLY, cgroup, ages) as far as a row's attributes say."""
    v6only, cgroup, info = False, 0, None
    at = ROW_BYTES
    while at + _ATTRIBUTE.size <= len(raw):
        size, kind = _ATTRIBUTE.unpack_from(raw, at)
        start, end = at + _ATTRIBUTE.size, at + size
        if size < _ATTRIBUTE.size or end > len(raw):
            break
        kind &= 0x3FFF
        if kind == _V6ONLY and end > start:
            v6only = bool(raw[start])
        elif kind == _CGROUP and end - start >= _CGROUP_ID.size:
            cgroup = _CGROUP_ID.unpack_from(raw, start)[0]
        elif kind == _INFO and end - start >= _AGES.size:
            sent, _, data, ack = _AGES.unpack_from(raw, start)
            info = TcpInfo(sent, data, ack)
        at += (size + 3) & ~3
    return v6only, cgroup, info


def hand_over(block: Block, intake: Intake) -> None:
    """Give the connected sockets of a block to an intake.

    Raises SourceError where a row has a family or a state that no socket has.
    """
    families, states, _ = block.kinds()
    kept = b"" if states.count(State.TIME_WAIT) == block.size else _kept(block)
    if 1 in kept:
        ones, block = block.parted(kept)
        for socket in ones.sockets():
            intake.keep(socket)
        families, states, _ = block.kinds()
    for state in _COUNTED:
        if state in states and state not in intake.examples:
            intake.examples[state] = block.socket(states.find(state))
    ipv4 = families.translate(_IS_IPV4)
    for mask, add in ((ipv4, _add_ipv4), (inverted(ipv4), _add_ipv6)):
        if 1 in mask:
            add(block.parted(mask)[0] if 0 in mask else block, intake)


def _kept(block: Block) -> bytes:
    """Return the mask of the rows to keep: of live ones those not accepted, or not answered."""
    _, states, timers = block.kinds()
    kept = both(states.translate(_IS_KEPT), timers.translate(_IS_FULL))
    if State.ESTABLISHED not in states:
        return kept
    unowned = bytes(map((0).__eq__, block.column(_INODE)))
    kept = either(kept, both(states.translate(_IS_ESTABLISHED), unowned))
    if TIMER_RETRANSMIT in timers and 1 in (often := _sent_often(block)):
        repeating = both(timers.translate(_IS_RETRANSMIT), often)
        kept = either(kept, both(states.translate(_IS_ESTABLISHED), repeating))
    return kept


def _sent_often(block: Block) -> bytes:
    """Return the mask of rows that have sent something again and again without an answer."""
    return block.retransmissions().translate(_IS_OFTEN)


def _add_ipv4(block: Block, intake: Intake, local: int = _LOCAL, remote: int = _REMOTE) -> None:
    _, states, timers = block.kinds()
    ends, expires, inodes = block.ports(), block.column(_EXPIRES), block.column(_INODE)
    addresses = block.column(local), block.column(remote)
    intake.add(Rows(states, timers, *ends, *addresses, expires, inodes))


def _add_ipv6(block: Block, intake: Intake) -> None:
    mapped = both(block.is_mapped(_LOCAL), block.is_mapped(_REMOTE))
    if 1 in mapped:
        as_ipv4, block = block.parted(mapped) if 0 in mapped else (block, Block(b"", block.length))
        _add_ipv4(as_ipv4, intake, _LOCAL + 3, _REMOTE + 3)
    if not block.size:
        return
    _, states, timers = block.kinds()
    rest = block.length - 4 * (_INTERFACE + 1)
    local, remote = zip(*struct.iter_unpack(f"24x16s20s{rest}x", block.words), strict=True)
    if any(block.column(_INTERFACE)):
        local, remote = zip(*map(_scoped, local, remote), strict=True)
    ends, expires, inodes = block.ports(), block.column(_EXPIRES), block.column(_INODE)
    intake.add(Rows(states, timers, *ends, [*local], [*remote], expires, inodes))


def _scoped(local: bytes, remote: bytes) -> tuple[bytes, bytes]:
    """Return the two ends, each with its interface only where the address means nothing without."""
    (interface,) = struct.unpack_from("=I", remote, 16)
    scope = interface.to_bytes(4, "big")
    return (
        local + scope if is_link_local(local) else local,
        remote[:16] + (scope if is_link_local(remote) else bytes(4)),
    )
