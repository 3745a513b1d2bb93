"""Ask the netfilter part of the kernel for a dump, and find messages and attributes in the answer.

Layout: include/uapi/linux/netlink.h, include/uapi/linux/netfilter/nfnetlink.h.  The kernel asks for
CAP_NET_ADMIN, whatever is asked.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live import rights

if TYPE_CHECKING:
    from collections.abc import Iterator

SEQ: Final = 1
HEADER: Final = struct.Struct("=IHHII")
BODY: Final = HEADER.size + 4  # struct nfgenmsg
ATTR: Final = struct.Struct("=HH")
TYPE: Final = 0x3FFF  # NLA_F_NESTED and NLA_F_NET_BYTEORDER are above
ERROR, DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE

_NETLINK_NETFILTER: Final = 12
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_BUFFER: Final = 1 << 16
_QUIET_SECONDS: Final = 5.0
_IN_ANY_CASE: Final = 8
"""Some 1,000 entries of connection tracking; they take 5 ms."""

_NO_MODULE: Final = frozenset(
    {
        errno.EINVAL,
        errno.ENOENT,
        errno.ENOPROTOOPT,
        errno.EPROTONOSUPPORT,
        errno.EAFNOSUPPORT,
        errno.EOPNOTSUPP,
    }
)
"""What comes where a part of netfilter is not there, and cannot be loaded."""


def datagrams(kind: int, payload: bytes, until: float, family: int = 0) -> Iterator[bytes]:
    """Yield the datagrams of a dump; it ends early at `until`, by time.monotonic().

    The first few come in any case: a busy host must not hide what is small.  Whoever reads them
    stops at the end of the dump.  Raises SourceRefused without the right, SourceError where the
    kernel falls silent.
    """
    size = BODY + len(payload)
    request = HEADER.pack(size, kind, _DUMP, SEQ, 0) + bytes([family, 0, 0, 0]) + payload
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
            channel.settimeout(_QUIET_SECONDS)
            channel.sendto(request, (0, 0))
            for number in itertools.count():
                if number >= _IN_ANY_CASE and time.monotonic() >= until:
                    return
                datagram, (sender, _) = channel.recvfrom(_BUFFER)
                if not sender:  # another process may send to this socket; the kernel is number 0
                    yield datagram
    except TimeoutError as error:
        raise SourceError("the kernel stopped answering about netfilter", "run again") from error
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            raise SourceError("the kernel dropped a part of its answer", "run again") from error
        raise refused("netfilter", error.errno or 0) from error


def messages(datagram: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (kind, begin, end) of the messages of a dump, behind their heads.

    Raises SourceRefused where the kernel refuses, SourceError where the bytes make no sense.
    """
    at, size = 0, len(datagram)
    while at < size:
        if size - at < HEADER.size:
            raise SourceError(f"a netfilter message is cut at byte {at}")
        length, kind, _, seq, _ = HEADER.unpack_from(datagram, at)
        if length < HEADER.size or at + length > size:
            raise SourceError(f"a netfilter message at byte {at} claims {length} bytes")
        if seq == SEQ:
            if kind in (ERROR, DONE):
                _refuse_unless_zero(datagram[at + HEADER.size : at + length])
            yield kind, at + BODY, at + length
        at += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, filled up to whole words."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (kind, begin, end) of the attributes in a stretch, their heads left out."""
    while at + 4 <= end:
        length, kind = ATTR.unpack_from(raw, at)
        if length < 4 or at + length > end:
            raise SourceError(f"a netfilter attribute at byte {at} claims {length} bytes")
        yield kind & TYPE, at + 4, at + length
        at += (length + 3) & ~3


def _refuse_unless_zero(body: bytes) -> None:
    number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if number:
        raise refused("netfilter", number)


def refused(who: str, number: int) -> SourceRefused:
    """Return what is said where a part of the kernel refuses, by the error's number.

    Only some errors are for want of a right: to root no right helps against the others.
    """
    known = os.strerror(number) if 0 < number < 4096 else "unknown error"
    step = "run again"
    if number in (errno.EPERM, errno.EACCES):
        step = rights.to_get(*rights.NETFILTER)
    elif number in _NO_MODULE:
        step = "this kernel has no module for it, or could not load it: see dmesg"
    return SourceRefused(f"{who} refuses: {known}", step)
