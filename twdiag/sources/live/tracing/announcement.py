"""Decode the kernel's announcements of TCP sockets that it lets go of.  Pure: bytes in.

Layout: include/uapi/linux/sock_diag.h, inet_diag.h, tcp.h.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError
from twdiag.model.closes import Death, Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

DATAGRAM: Final = 1 << 15
"""The bytes that one datagram has at most."""

HEADER: Final = struct.Struct("=IHHII")
SOCK_DIAG_BY_FAMILY: Final = 20
# struct inet_diag_msg: family, state, timer, retrans; ports, high byte first, 16 bytes for each
# address, interface, cookie; expires, rqueue, wqueue, uid, inode.
_MESSAGE: Final = struct.Struct("=B3xBBBB16s16sIQ4xII8x")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ATTR_INFO: Final = 2
# struct tcp_info up to bytes_retrans, the fields in the order of closes.Traffic; kernels before
# 4.19 end sooner.
_INFO: Final = struct.Struct("=2xBBB39xI4xII8xI12xI32xQQ4xIIIII32xI4xQQ")
_WHOLE_INFO: Final = _ATTRIBUTE.size + _INFO.size
_AF_INET: Final = int(socket.AF_INET)


class Decoder:
    """Decodes datagrams, those at once that are laid out as the last one: nearly all are."""

    def __init__(self) -> None:
        self._length = 0
        self._unpack = HEADER.unpack_from

    def decode(self, datagram: memoryview | bytes, at: int) -> list[Death]:
        """Return what decode() does."""
        if len(datagram) == self._length:
            (
                length, kind, _, _, _, family, high, low, far_high, far_low, local, remote,
                interface, cookie, unread, unacked, size, attribute, *info,
            ) = self._unpack(datagram)  # fmt: skip
            alike = length == self._length and kind == SOCK_DIAG_BY_FAMILY
            if alike and attribute == _ATTR_INFO and size >= _WHOLE_INFO and family == _AF_INET:
                # As Death() does, without its call.
                values = (
                    at, cookie, family, local[:4], high << 8 | low, remote[:4],
                    far_high << 8 | far_low, interface, unread, unacked,
                    tuple.__new__(Traffic, info),
                )  # fmt: skip
                return [tuple.__new__(Death, values)]
        deaths = decode(datagram, at)
        self._learn(datagram, deaths)
        return deaths

    def _learn(self, datagram: memoryview | bytes, deaths: Sequence[Death]) -> None:
        """Note where struct tcp_info stands, where a datagram is one ordinary announcement."""
        place = HEADER.size + _MESSAGE.size
        if len(deaths) != 1 or deaths[0].traffic is None or deaths[0].traffic.sent is None:
            return
        while (head := _ATTRIBUTE.unpack_from(datagram, place))[1] != _ATTR_INFO:
            place += (head[0] + 3) & ~3
        before = place - HEADER.size - _MESSAGE.size
        codes = (HEADER.format, _MESSAGE.format, f"{before}x", _ATTRIBUTE.format, _INFO.format)
        whole = struct.Struct("=" + "".join(code.lstrip("=") for code in codes))
        self._length, self._unpack = len(datagram), whole.unpack_from


def decode(datagram: memoryview | bytes, at: int) -> list[Death]:
    """Return the sockets that one datagram announces.

    Raises SourceError where it is not what the kernel writes.
    """
    deaths, place = [], 0
    try:
        while place < len(datagram):
            length, kind, *_ = HEADER.unpack_from(datagram, place)
            if length < HEADER.size or place + length > len(datagram):
                raise SourceError("the kernel's announcement of a socket is cut off")
            if kind == SOCK_DIAG_BY_FAMILY:
                deaths.append(_decode_message(datagram, place, place + length, at))
            place += (length + 3) & ~3
    except struct.error as error:
        raise SourceError("the kernel's announcement of a socket is cut off") from error
    return deaths


def _decode_message(datagram: memoryview | bytes, start: int, end: int, at: int) -> Death:
    place = start + HEADER.size
    if place + _MESSAGE.size > end:
        raise SourceError("the kernel's announcement of a socket is cut off")
    (family, high, low, far_high, far_low, local, remote, interface, cookie, unread, unacked) = (
        _MESSAGE.unpack_from(datagram, place)
    )
    local_port, remote_port = high << 8 | low, far_high << 8 | far_low
    if family == socket.AF_INET:
        local, remote = local[:4], remote[:4]
    place += _MESSAGE.size
    return Death(
        at, cookie, family, local, local_port, remote, remote_port, interface, unread, unacked,
        _find_info(datagram, place, end),
    )  # fmt: skip


def _find_info(datagram: memoryview | bytes, place: int, end: int) -> Traffic | None:
    found = None
    while place + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(datagram, place)
        if length < _ATTRIBUTE.size or place + length > end:
            raise SourceError("an attribute of a socket's announcement is cut off")
        if kind == _ATTR_INFO:
            found = _decode_info(datagram, place + _ATTRIBUTE.size, place + length)
        place += (length + 3) & ~3
    return found


def _decode_info(datagram: memoryview | bytes, start: int, end: int) -> Traffic:
    if end - start >= _INFO.size:
        return Traffic._make(_INFO.unpack_from(datagram, start))
    cut = bytes(datagram[start:end]).ljust(_INFO.size, b"\0")
    return Traffic._make(_INFO.unpack(cut))._replace(sent=None, resent=None)  # before Linux 4.19
