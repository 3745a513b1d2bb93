"""Look up the ends of a few TCP sockets by inode, connected ones that a census only counts.

The kernel has no lookup by inode: this dumps the connected sockets of a namespace and keeps the few
that are sought (0.5 us for each one passed over).  Layout: include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.sockets import BOUND
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_REQUEST: Final = struct.Struct("=IHHIIBBBBI48x")  # nlmsghdr, inet_diag_req_v2 (any socket)
_HEADER: Final = struct.Struct("=IHHII")
_ROW: Final = struct.Struct("=BBxxHH16s16sI8xIIIII")
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_BUFFER: Final = 1 << 15  # the kernel fills datagrams up to 32 KB
_TCP: Final = 6
# Without TIME_WAIT, which has no inode, and SYN_RECV.
_STATES: Final = sum(
    1 << state
    for state in (
        State.ESTABLISHED,
        State.SYN_SENT,
        State.FIN_WAIT1,
        State.FIN_WAIT2,
        State.CLOSE_WAIT,
        State.LAST_ACK,
        State.LISTEN,
        State.CLOSING,
    )
) | (1 << BOUND)


class Endpoint(NamedTuple):
    """One TCP socket: its state, its two ends and its queues; addresses as a Socket has them."""

    state: State
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    recv_q: int
    send_q: int
    inode: int


def read_endpoints(inodes: Collection[int], seconds: float = 0.5) -> dict[int, Endpoint]:
    """Return the sockets of this namespace that have these inodes, as far as time allows.

    Missing ones are of another kind (Unix, UDP), another namespace, or in no table.  Needs no
    right; {} where the kernel refuses.
    """
    wanted = frozenset(inodes) - {0}
    found: dict[int, Endpoint] = {}
    until = time.monotonic() + seconds
    for family in (socket.AF_INET, socket.AF_INET6) if wanted else ():
        try:
            found.update((row.inode, row) for row in _dump(family, until) if row.inode in wanted)
        except OSError:
            break  # refused, late, or a kernel without IPv6: what else was found is still true
        if len(found) == len(wanted):
            break
    return found


def _dump(family: int, until: float) -> Iterator[Endpoint]:
    """Yield the sockets of a family; raises OSError where it is refused or takes too long."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:  # NETLINK_SOCK_DIAG
        link.settimeout(max(0.01, until - time.monotonic()))
        head = (72, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
        link.send(_REQUEST.pack(*head, family, _TCP, 0, 0, _STATES))
        while time.monotonic() < until:
            data = link.recv(_BUFFER)
            done, rows = parse_datagram(data)
            yield from rows
            if done:
                if number := parse_error(data):
                    raise OSError(number, os.strerror(number))
                return
    raise TimeoutError


def parse_datagram(data: bytes) -> tuple[bool, list[Endpoint]]:
    """Return (whether the dump ends here, its rows) of one datagram; broken tails are left out."""
    rows: list[Endpoint] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return True, rows
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            return True, rows
        row = parse_row(data[at + _HEADER.size : at + length])
        if row is not None:
            rows.append(row)
        at += (length + 3) & ~3
    return False, rows


def parse_error(data: bytes) -> int:
    """Return the errno with which a datagram ends a dump, 0 for an end without one."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            # struct nlmsgerr begins with the errno, and so does what follows NLMSG_DONE.
            code = data[at + _HEADER.size : at + _HEADER.size + 4]
            number = int.from_bytes(code, sys.byteorder, signed=True)
            return max(0, -number) or (errno.EIO if kind == _NLMSG_ERROR else 0)
        if length < _HEADER.size:
            return errno.EIO
        at += (length + 3) & ~3
    return 0


def parse_row(message: bytes) -> Endpoint | None:
    """Return the socket of a struct inet_diag_msg, None where it is cut or of no known state."""
    if len(message) < _ROW.size:
        return None
    family, state, sport, dport, src, dst, _, _, recv_q, send_q, _, inode = _ROW.unpack_from(
        message
    )
    try:
        known = State(state)
    except ValueError:
        return None
    return Endpoint(
        known,
        _address(family, src),
        socket.ntohs(sport),
        _address(family, dst),
        socket.ntohs(dport),
        recv_q,
        send_q,
        inode,
    )


def _address(family: int, raw: bytes) -> str:
    """Return an address as text, v4-mapped ones folded to IPv4."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if raw.startswith(b"\0" * 10 + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)
