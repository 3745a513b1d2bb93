"""Look up the other end of a few Unix sockets by inode: sock_diag of this network namespace.

Layout: include/uapi/linux/unix_diag.h.  Any user may ask.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_REQUEST: Final = struct.Struct("=IHHIIBBHIIIII")  # nlmsghdr, struct unix_diag_req
_HEADER: Final = struct.Struct("=IHHII")
_MESSAGE: Final = struct.Struct("=4xI8x")  # struct unix_diag_msg: udiag_ino
_ATTRIBUTE: Final = struct.Struct("=HHI")
_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY, of a request and of its answer
_NLM_F_REQUEST: Final = 1
_SHOW_PEER: Final = 4  # UDIAG_SHOW_PEER
_PEER: Final = 2  # UNIX_DIAG_PEER
_NO_COOKIE: Final = 0xFFFFFFFF
_SECONDS: Final = 0.5


def unix_peers(inodes: Iterable[int]) -> dict[int, int]:
    """Return the inode of the other end of each Unix socket that has one; others are left out."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, 3, _SOCK_DIAG) as link:
        link.settimeout(_SECONDS)
        for inode in inodes:
            head = (_REQUEST.size, _BY_FAMILY, _NLM_F_REQUEST, 1, 0)
            asked = (socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _SHOW_PEER, _NO_COOKIE, _NO_COOKIE)
            link.send(_REQUEST.pack(*head, *asked))
            peer = parse_answer(link.recv(1 << 13), inode)
            if peer is not None:
                found[inode] = peer
    return found


def parse_answer(data: bytes, inode: int) -> int | None:
    """Return the peer's inode in an answer about a socket, None where it has none."""
    begin = _HEADER.size + _MESSAGE.size
    if len(data) < begin:
        return None
    length, kind, *_ = _HEADER.unpack_from(data)
    if kind != _BY_FAMILY or _MESSAGE.unpack_from(data, _HEADER.size) != (inode,):
        return None
    at, end = begin, min(length, len(data))
    while at + _ATTRIBUTE.size <= end:
        size, which, value = _ATTRIBUTE.unpack_from(data, at)
        if which == _PEER and size == _ATTRIBUTE.size:
            return int(value) or None
        at += max(4, size + 3 & ~3)
    return None
