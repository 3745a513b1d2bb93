"""What the kernel's socket dump looks like in bytes, written down apart from the decoder.

include/uapi/linux/netlink.h, include/uapi/linux/inet_diag.h, include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from twdiag.model.sockets import Socket

MANY = settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
"""Enough examples for the structure of a dump, however slow the machine."""

INFO, SHUTDOWN, SKV6ONLY, MARK, SOCKOPT, CGROUP = 2, 8, 11, 15, 22, 21
NOOP, ERROR, DONE, OVERRUN, BY_FAMILY, GETSOCK = 1, 2, 3, 4, 20, 18
MULTI, DUMP_INTR = 0x2, 0x10


@dataclass(frozen=True)
class Row:
    """One struct inet_diag_msg and the attributes behind it; addresses as the kernel has them."""

    family: int = socket.AF_INET
    state: int = 1
    source: bytes = bytes([10, 0, 0, 1])
    sport: int = 40000
    destination: bytes = bytes([10, 0, 0, 2])
    dport: int = 443
    timer: int = 0
    retrans: int = 0
    interface: int = 0
    cookie: int = 0x1122334455667788
    expires: int = 0
    recv_q: int = 0
    send_q: int = 0
    uid: int = 0
    inode: int = 0
    attributes: tuple[tuple[int, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The bytes behind the message head; the last attribute is not padded."""
        return (
            bytes((self.family, self.state, self.timer, self.retrans))
            + self.sport.to_bytes(2, "big")
            + self.dport.to_bytes(2, "big")
            + self.source.ljust(16, b"\0")
            + self.destination.ljust(16, b"\0")
            + struct.pack("=IQ", self.interface, self.cookie)
            + struct.pack("=IIIII", self.expires, self.recv_q, self.send_q, self.uid, self.inode)
            + b"".join(_padded(attribute(*pair)) for pair in self.attributes[:-1])
            + b"".join(attribute(*pair) for pair in self.attributes[-1:])
        )

    def expected(self) -> tuple[object, ...]:
        """The same row as a readable Socket has it, addresses as objects."""
        state = {12: 3, 13: 7}.get(self.state, self.state)
        return (
            *(state, *self._end(self.source), self.sport, *self._end(self.destination), self.dport),
            *(self.timer, self.expires, self.retrans, self.recv_q, self.send_q),
            *(self.uid, self.inode, self.cookie),
            self.state == 13 or (self.state == 7 and not self.dport),
            (SKV6ONLY, b"\1") in self.attributes,
            self.ages,
        )

    def _end(self, raw: bytes) -> tuple[object, int]:
        address = ipaddress.ip_address(raw)
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped:
                return address.ipv4_mapped, 0
            return address, self.interface if address.is_link_local else 0
        return address, 0

    @property
    def ages(self) -> tuple[int, ...] | None:
        """(last data sent, last data received, last ACK received) of its tcp_info, if any."""
        for kind, payload in self.attributes:
            if kind == INFO:
                return struct.unpack_from("=I4xII", payload, 44)
        return None


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one struct nlattr with its payload."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload


def message(kind: int, body: bytes, *, seq: int = 1, flags: int = MULTI) -> bytes:
    """Return one netlink message, padded to the next."""
    return _padded(struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 0) + body)


def done(errno: int = 0, *, seq: int = 1) -> bytes:
    """Return the end of a dump; the kernel reports a failure as a negative errno."""
    return message(DONE, struct.pack("=i", -errno), seq=seq)


def error(errno: int, *, seq: int = 1) -> bytes:
    """Return NLMSG_ERROR with the head of the request it answers."""
    return message(ERROR, struct.pack("=i", -errno) + bytes(16), seq=seq, flags=0)


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def seen_in(socket: Socket) -> tuple[object, ...]:
    """Return a readable socket as `Row.expected` has it."""
    return (
        *(socket.state, *_parsed(socket.local_address), socket.local_port),
        *(*_parsed(socket.remote_address), socket.remote_port),
        *(socket.timer, socket.expires, socket.retrans, socket.recv_q, socket.send_q),
        *(socket.uid, socket.inode, socket.cookie, socket.bound, socket.v6only),
        socket.info and tuple(socket.info),
    )


def _parsed(text: str) -> tuple[object, int]:
    address, _, scope = text.partition("%")
    return ipaddress.ip_address(address), int(scope or 0)


# Strategies.

_U32 = st.integers(0, 0xFFFFFFFF)
_V4 = st.binary(min_size=4, max_size=4)
_V6 = st.one_of(
    st.binary(min_size=16, max_size=16).filter(lambda raw: raw[:12] != bytes(10) + b"\xff\xff"),
    st.sampled_from([bytes(16), bytes(15) + b"\x01", b"\xfe\x80" + bytes(13) + b"\x07"]),
)
_MAPPED = _V4.map(lambda raw: bytes(10) + b"\xff\xff" + raw)
_COMMON = ((SHUTDOWN, b"\0"), (CGROUP, bytes(8)), (SOCKOPT, b"\0\0"))


@st.composite
def rows(draw: st.DrawFn, states: tuple[int, ...] = tuple(range(1, 14))) -> Row:
    """One socket row of any family, with attributes that make it 88, 96, 124 ... 408 bytes long."""
    family = draw(st.sampled_from([socket.AF_INET, socket.AF_INET6]))
    address = _V4 if family == socket.AF_INET else draw(st.sampled_from([_V6, _MAPPED]))
    state = draw(st.sampled_from((*states, 10, 10, 7)))
    attributes: tuple[tuple[int, bytes], ...] = ()
    marked = ((MARK, draw(st.binary(min_size=4, max_size=4))),)
    shape = draw(st.sampled_from(["bare", "mark", "full", "info", "odd"]))
    if shape in ("mark", "full", "info"):
        attributes += marked
    if shape in ("full", "info"):
        attributes += _COMMON
    if family == socket.AF_INET6 and (state == 10 or draw(st.booleans())):
        attributes += ((SKV6ONLY, draw(st.sampled_from([b"\0", b"\1"]))),)
    if shape == "info":
        attributes += ((INFO, draw(st.binary(min_size=280, max_size=280))),)
    if shape == "odd":
        attributes += ((MARK + 100, draw(st.binary(max_size=7))),)
    return Row(
        family,
        state,
        draw(address),
        draw(st.integers(0, 0xFFFF)),
        draw(address),
        draw(st.integers(0, 0xFFFF)),
        timer=draw(st.integers(0, 4)),
        retrans=draw(st.integers(0, 255)),
        interface=draw(st.sampled_from([0, 1, 7])),
        cookie=draw(st.integers(0, (1 << 64) - 1)),
        expires=draw(_U32),
        recv_q=draw(_U32),
        send_q=draw(_U32),
        uid=draw(_U32),
        inode=draw(_U32),
        attributes=attributes,
    )


RUNS = st.lists(st.tuples(rows(), st.integers(1, 12)), max_size=6).map(
    lambda runs: [row for row, times in runs for _ in range(times)]
)
"""Rows in runs of equal ones, as a dump of thousands of TIME_WAITs has them."""


@st.composite
def dumps(draw: st.DrawFn) -> tuple[list[Row], list[bytes]]:
    """A dump: its rows, and the datagrams they come in, mixed with what belongs to no dump."""
    wanted = draw(RUNS)
    kind = draw(st.sampled_from([BY_FAMILY, GETSOCK]))
    messages = [message(kind, row.body) for row in wanted]
    strange = st.sampled_from(
        [
            message(NOOP, b""),
            message(kind, Row().body, seq=2),
            message(kind, Row(family=99, state=99).body, seq=2),
            done(2, seq=2),
            error(1, seq=7),
        ]
    )
    for extra in draw(st.lists(strange, max_size=3)):
        messages.insert(draw(st.integers(0, len(messages))), extra)
    messages.append(done())
    datagrams: list[bytes] = []
    while messages:
        size = draw(st.integers(1, len(messages)))
        datagrams.append(b"".join(messages[:size]))
        messages = messages[size:]
    return wanted, datagrams
