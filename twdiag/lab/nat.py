"""NAT in the private namespace: rules of nf_tables, made by netlink, so that no program is needed.

Layout: include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

from twdiag.errors import SourceRefused
from twdiag.lab.stage import DEADLINE, LabError
from twdiag.sources.live.netfilter.nfnetlink import attribute

_NETLINK_NETFILTER: Final = 12
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # NFNL_MSG_BATCH_BEGIN, _END
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = (10 << 8 | kind for kind in (0, 3, 6))
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_IPV4: Final = 2  # NFPROTO_IPV4
_POSTROUTING, _SNAT_PRIORITY = 4, 100
_TCP: Final = 6
_HEADER: Final = struct.Struct("=IHHII")
_TABLE, _CHAIN = b"twdiag\0", b"out\0"


def give_source(port: int, address: str, low: int, high: int) -> None:
    """Let TCP connections to a port leave with another source address and one of these ports."""
    expressions = (
        _expression(b"meta", (1, _number(1)), (2, _number(16))),  # the protocol, into register 1
        _expression(b"cmp", (1, _number(1)), (2, _number(0)), (3, _value(bytes([_TCP])))),
        _expression(
            b"payload", *((key, _number(n)) for key, n in ((1, 1), (2, 2), (3, 2), (4, 2)))
        ),
        _expression(b"cmp", (1, _number(1)), (2, _number(0)), (3, _value(_port(port)))),
        _constant(1, socket.inet_aton(address)),
        _constant(2, _port(low)),
        _constant(3, _port(high)),
        # SNAT, IPv4, least address, least and greatest port
        _expression(
            b"nat", *((key, _number(n)) for key, n in ((1, 0), (2, _IPV4), (3, 1), (5, 2), (6, 3)))
        ),
    )
    hook = attribute(1, _number(_POSTROUTING)) + attribute(2, _number(_SNAT_PRIORITY))
    _commit(
        (_NEW_TABLE, attribute(1, _TABLE)),
        (
            _NEW_CHAIN,
            attribute(1, _TABLE)
            + attribute(3, _CHAIN)
            + attribute(0x8004, hook)
            + attribute(7, b"nat\0"),
        ),
        (
            _NEW_RULE,
            attribute(1, _TABLE) + attribute(2, _CHAIN) + attribute(0x8004, b"".join(expressions)),
        ),
    )


def _commit(*orders: tuple[int, bytes]) -> None:
    """Do all of these, or none; raises SourceRefused where the kernel cannot."""
    batch = [_message(_BATCH_BEGIN, _REQUEST, 0, 10)]
    batch += [
        _message(kind, _REQUEST | _ACK | _CREATE, number, 0, body, _IPV4)
        for number, (kind, body) in enumerate(orders, 1)
    ]
    batch.append(_message(_BATCH_END, _REQUEST, 0, 10))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
        channel.settimeout(DEADLINE)
        channel.sendto(b"".join(batch), (0, 0))
        for _ in orders:
            try:
                answer = channel.recv(1 << 16)
            except TimeoutError as error:
                raise LabError("the kernel does not answer about NAT rules") from error
            (number,) = struct.unpack_from("=i", answer, _HEADER.size)
            if number:
                raise SourceRefused(
                    f"the kernel makes no NAT rule: {os.strerror(-number)}",
                    "this scenario needs nf_tables with NAT: modprobe nft_nat",
                )


def _message(
    kind: int, flags: int, number: int, resource: int, body: bytes = b"", family: int = 0
) -> bytes:
    head = struct.pack("!BBH", family, 0, resource)
    return _HEADER.pack(_HEADER.size + 4 + len(body), kind, flags, number, 0) + head + body


def _number(number: int) -> bytes:
    return struct.pack("!I", number)


def _port(port: int) -> bytes:
    return struct.pack("!H", port)


def _value(raw: bytes) -> bytes:
    return attribute(1, raw)


def _constant(register: int, raw: bytes) -> bytes:
    return _expression(b"immediate", (1, _number(register)), (2, _value(raw)))


def _expression(name: bytes, *fields: tuple[int, bytes]) -> bytes:
    data = b"".join(
        attribute(key | (0x8000 if (name, key) in _NESTED else 0), raw) for key, raw in fields
    )
    return attribute(0x8001, attribute(1, name + b"\0") + attribute(0x8002, data))


_NESTED: Final = frozenset({(b"cmp", 3), (b"immediate", 2)})
