"""Read the sockets of one local port by sock_diag, which the kernel picks out itself.

Layout: include/uapi/linux/inet_diag.h (struct inet_diag_req_v2, inet_diag_bc_op, inet_diag_msg).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.sockets import BOUND, Socket
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_FLAGS: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_REQ_BYTECODE: Final = 1
_ATTR_SKV6ONLY: Final = 11
_EVERY_STATE: Final = (1 << (BOUND + 1)) - 2
_BC_S_GE: Final = 2
_BC_S_LE: Final = 3
_BUFFER: Final = 1 << 16
_QUIET_SECONDS: Final = 5.0
_HEADER: Final = struct.Struct("=IHHII")
# family, state, timer, retrans; ports in network order; addresses; interface; cookie; expires,
# rqueue, wqueue, uid, inode
_MESSAGE: Final = struct.Struct("=BBBB2s2s16s16sIQIIIII")
_ATTR: Final = struct.Struct("=HH")
_MAPPED: Final = bytes(10) + b"\xff\xff"
_STATES: Final = {12: State.SYN_RECV, BOUND: State.CLOSE} | {int(state): state for state in State}


class PortRow(NamedTuple):
    """A socket of the port; `v6only` is whether an IPv6 socket takes no IPv4, None unseen."""

    socket: Socket
    v6only: bool | None = None


def encode_request(family: int, port: int, seq: int) -> bytes:
    """Return a request for the sockets of a family with this local port, in whatever state.

    The two conditions, at least and at most this port, have been there as long as sock_diag.
    """
    code = b""
    for operation, rest in ((_BC_S_GE, 16), (_BC_S_LE, 8)):
        # struct inet_diag_bc_op: what, how far to go if true, if false (past the end: reject).
        code += struct.pack("=BBHBBH", operation, 8, rest + 4, 0, 0, port)
    attribute = _ATTR.pack(_ATTR.size + len(code), _REQ_BYTECODE) + code
    body = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, _EVERY_STATE) + attribute
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _FLAGS, seq, 0) + body


def decode(datagram: bytes, seq: int) -> tuple[list[PortRow], bool]:
    """Return the rows of a datagram, and whether it ends the dump.

    Raises SourceRefused where the kernel refuses the dump, SourceError where the bytes make no
    sense.
    """
    rows, position = list[PortRow](), 0
    while position < len(datagram):
        if len(datagram) - position < _HEADER.size:
            raise SourceError(f"a netlink message is cut at byte {position}")
        length, kind, _, number, _ = _HEADER.unpack_from(datagram, position)
        if length < _HEADER.size or position + length > len(datagram):
            raise SourceError(f"a netlink message at byte {position} claims {length} bytes")
        body = datagram[position + _HEADER.size : position + length]
        position += (length + 3) & ~3
        if number != seq:
            continue
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            _refuse_unless_zero(body)
            return rows, True
        if kind == _SOCK_DIAG_BY_FAMILY:
            rows.append(_row(body))
    return rows, False


def _refuse_unless_zero(body: bytes) -> None:
    number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if number:
        known = os.strerror(number) if 0 < number < 4096 else "unknown error"
        raise SourceRefused(
            f"the kernel refuses to list the sockets of a port: {known}",
            "load the tcp_diag module: modprobe tcp_diag",
        )


def _row(body: bytes) -> PortRow:
    if len(body) < _MESSAGE.size:
        raise SourceError(f"a socket row has only {len(body)} bytes")
    family, state, timer, retrans, *rest = _MESSAGE.unpack_from(body)
    local_port, remote_port, source, destination, interface, cookie, expires, *more = rest
    if state not in _STATES or family not in (socket.AF_INET, socket.AF_INET6):
        raise SourceError(f"a socket row has the unknown state {state} or family {family}")
    recv_q, send_q, uid, inode = more
    v6only = next(
        (bool(value[0]) for kind, value in _attributes(body) if kind == _ATTR_SKV6ONLY and value),
        None,
    )
    row = Socket(
        _STATES[state],
        _address(family, source, interface),
        int.from_bytes(local_port, "big"),
        _address(family, destination, interface),
        int.from_bytes(remote_port, "big"),
        timer,
        expires,
        retrans,
        recv_q,
        send_q,
        uid,
        inode,
        cookie,
    )
    return PortRow(row, v6only)


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    position = _MESSAGE.size
    while position + _ATTR.size <= len(body):
        length, kind = _ATTR.unpack_from(body, position)
        if length < _ATTR.size:
            return
        yield kind, body[position + _ATTR.size : position + length]
        position += (length + 3) & ~3


def _address(family: int, raw: bytes, interface: int) -> str:
    """Return an address as text, a v4-mapped one as IPv4."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if raw.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    text = socket.inet_ntop(socket.AF_INET6, raw)
    return f"{text}%{interface}" if interface and text.startswith("fe80:") else text


def read_port(port: int) -> list[PortRow]:
    """Return every TCP socket of this namespace with this local port, of both families.

    Bound, unconnected sockets are among them from Linux 6.8 on; see shows_bound().  Raises
    SourceRefused where the kernel (or a seccomp filter) allows no dump.
    """
    try:
        channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise SourceRefused(
            f"a netlink socket is refused: {error.strerror}",
            "allow AF_NETLINK (systemd: RestrictAddressFamilies=AF_NETLINK)",
        ) from error
    with channel:
        channel.settimeout(_QUIET_SECONDS)
        rows = _dump(channel, socket.AF_INET, port)
        if os.path.exists("/proc/self/net/if_inet6"):
            rows += _dump(channel, socket.AF_INET6, port)
    # A dump that goes on while sockets change may show one twice.
    return list({row.socket.cookie: row for row in rows}.values())


def _dump(channel: socket.socket, family: int, port: int) -> list[PortRow]:
    rows, done = list[PortRow](), False
    try:
        channel.sendto(encode_request(family, port, family), (0, 0))
        while not done:
            found, done = decode(channel.recv(_BUFFER), family)
            rows += found
    except TimeoutError as error:
        raise SourceError(
            f"the kernel stopped answering the socket dump for {_QUIET_SECONDS:.0f} s", "run again"
        ) from error
    except OSError as error:
        raise SourceRefused(
            f"the kernel refuses the socket dump: {error.strerror}",
            "see what forbids it: twdiag doctor",
        ) from error
    return rows


def shows_bound() -> bool | None:
    """Return whether the kernel shows bound, unconnected sockets (Linux 6.8).

    Asked of a socket of this process's own, bound to a port of the loopback device for a moment;
    None where no port is free for it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        try:
            own.bind(("127.0.0.1", 0))
        except OSError:
            return None
        return any(row.socket.state is State.CLOSE for row in read_port(own.getsockname()[1]))
