"""Read the kernel's announcements of TCP sockets that it lets go of: any user, own namespace.

Groups SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY of NETLINK_SOCK_DIAG, one message for
each full socket with its struct tcp_info (include/uapi/linux/sock_diag.h, inet_diag.h, tcp.h).
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.closes import Death, Traffic
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

_NETLINK_SOCK_DIAG: Final = 4
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_GROUPS: Final = (1, 3)  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_MEMINFO_DROPS: Final = 8  # SK_MEMINFO_DROPS
ROOM: Final = 1 << 25
_DATAGRAM: Final = 1 << 15

_HEADER: Final = struct.Struct("=IHHII")
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_IPPROTO_TCP: Final = 6
# struct inet_diag_msg: family, state, timer, retrans; ports, high byte first, 16 bytes for each
# address, interface, cookie; expires, rqueue, wqueue, uid, inode.
_MESSAGE: Final = struct.Struct("=B3xBBBB16s16sIQ4xII8x")
_PORTS: Final = struct.Struct(">HH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ATTR_INFO: Final = 2
# struct tcp_info up to bytes_retrans, the fields in the order of closes.Traffic; kernels before
# 4.19 end sooner.
_INFO: Final = struct.Struct("=2xBBB39xI4xII8xI12xI32xQQ4xIIIII32xI4xQQ")
_WHOLE_INFO: Final = _ATTRIBUTE.size + _INFO.size
_AF_INET: Final = int(socket.AF_INET)
_REQUEST: Final = struct.Struct("=IHHIIBBBBI4s16s16sI8s")
_NO_COOKIE: Final = b"\xff" * 8
_AT_ONCE: Final = 64
_SAME_MOMENT: Final = 16


class Announcements:
    """The announcements of this network namespace, from the moment this is entered.

    `room` is the memory for those not read yet, if the kernel allows so much.  Raises SourceRefused
    where the kernel (or a seccomp filter) has none for us.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room

    def __enter__(self) -> Announcements:
        self._socket = _open(self._room)
        self._buffer = bytearray(_DATAGRAM)
        self._decoder = Decoder()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor that can be read when something is announced."""
        return self._socket.fileno()

    def wait(self, seconds: float) -> bool:
        """Wait until something is announced, at most so long; return whether something is."""
        return bool(self._poll.poll(seconds * 1000))

    def read(self, most: int = 0) -> list[Death]:
        """Return the sockets announced since the last call; `most` of them at most, if given."""
        deaths: list[Death] = []
        view = memoryview(self._buffer)
        now = 0
        while not most or len(deaths) < most:
            try:
                received = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue  # some were dropped: `lost` has the number
                raise SourceError(
                    f"the kernel's announcements cannot be read: {error.strerror}"
                ) from error
            if not len(deaths) % _SAME_MOMENT:
                now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            deaths += self._decoder.decode(view[:received], now)
        return deaths

    @property
    def lost(self) -> int | None:
        """The number of announcements that found no room, by the kernel's own count."""
        try:
            info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            drops: int = _MEMINFO.unpack(info)[_MEMINFO_DROPS]
        except (OSError, struct.error):
            return None  # before Linux 4.12
        return drops


class Decoder:
    """Decodes datagrams, those at once that are laid out as the last one: nearly all are."""

    def __init__(self) -> None:
        self._length = 0
        self._unpack = _HEADER.unpack_from

    def decode(self, datagram: memoryview | bytes, at: int) -> list[Death]:
        """Return what decode() does."""
        if len(datagram) == self._length:
            (
                length, kind, _, _, _, family, high, low, far_high, far_low, local, remote,
                interface, cookie, unread, unacked, size, attribute, *info,
            ) = self._unpack(datagram)  # fmt: skip
            alike = length == self._length and kind == _SOCK_DIAG_BY_FAMILY
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
        place = _HEADER.size + _MESSAGE.size
        if len(deaths) != 1 or deaths[0].traffic is None or deaths[0].traffic.sent is None:
            return
        while (head := _ATTRIBUTE.unpack_from(datagram, place))[1] != _ATTR_INFO:
            place += (head[0] + 3) & ~3
        before = place - _HEADER.size - _MESSAGE.size
        codes = (_HEADER.format, _MESSAGE.format, f"{before}x", _ATTRIBUTE.format, _INFO.format)
        whole = struct.Struct("=" + "".join(code.lstrip("=") for code in codes))
        self._length, self._unpack = len(datagram), whole.unpack_from


def decode(datagram: memoryview | bytes, at: int) -> list[Death]:
    """Return the sockets that one datagram announces.

    Raises SourceError where it is not what the kernel writes.
    """
    deaths, place = [], 0
    try:
        while place < len(datagram):
            length, kind, *_ = _HEADER.unpack_from(datagram, place)
            if length < _HEADER.size or place + length > len(datagram):
                raise SourceError("the kernel's announcement of a socket is cut off")
            if kind == _SOCK_DIAG_BY_FAMILY:
                deaths.append(_decode_message(datagram, place, place + length, at))
            place += (length + 3) & ~3
    except struct.error as error:
        raise SourceError("the kernel's announcement of a socket is cut off") from error
    return deaths


def _decode_message(datagram: memoryview | bytes, start: int, end: int, at: int) -> Death:
    place = start + _HEADER.size
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


class LeftBehind:
    """Asks the kernel what stands under the addresses of sockets that have died.

    A lookup of single rows, whose cost does not depend on how many sockets there are.
    """

    def __enter__(self) -> LeftBehind:
        self._socket = _new_socket()
        self._socket.settimeout(1.0)
        self._buffer = bytearray(_DATAGRAM)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def states(self, deaths: Sequence[Death]) -> list[State | None]:
        """Return the state of what each has left: TIME_WAIT, FIN_WAIT2, or LISTEN, None for none.

        LISTEN is the listener of the local end where nothing else is left.  None too where the
        kernel does not answer.
        """
        found: list[State | None] = []
        for first in range(0, len(deaths), _AT_ONCE):
            some = deaths[first : first + _AT_ONCE]
            with contextlib.suppress(OSError):
                self._socket.send(b"".join(_encode(death, n) for n, death in enumerate(some)))
                found += self._answers(len(some))
            found += [None] * (first + len(some) - len(found))
        return found

    def listen(self, deaths: Sequence[Death]) -> list[bool]:
        """Return for each whether a socket listens on its local address and port."""
        ends = [death._replace(remote=bytes(len(death.remote)), remote_port=0) for death in deaths]
        return [state is State.LISTEN for state in self.states(ends)]

    def _answers(self, number: int) -> list[State | None]:
        states: list[State | None] = [None] * number
        answered = 0
        while answered < number:
            received = self._socket.recv_into(self._buffer)
            for sequence, state in decode_answers(memoryview(self._buffer)[:received]):
                if sequence < number:
                    states[sequence] = state
                    answered += 1
        return states


def decode_answers(datagram: memoryview | bytes) -> Iterator[tuple[int, State | None]]:
    """Yield (number of the request, state of the row) of each answer; None for "no such row"."""
    place = 0
    while place + _HEADER.size <= len(datagram):
        length, kind, _, sequence, _ = _HEADER.unpack_from(datagram, place)
        if length < _HEADER.size:
            return
        state = None
        if kind == _SOCK_DIAG_BY_FAMILY and place + _HEADER.size + 2 <= len(datagram):
            with contextlib.suppress(ValueError):
                state = State(datagram[place + _HEADER.size + 1])
            yield sequence, state
        elif kind == _NLMSG_ERROR:
            yield sequence, None
        place += (length + 3) & ~3


def _encode(death: Death, sequence: int) -> bytes:
    """Return the request for exactly one row (no NLM_F_DUMP): struct inet_diag_req_v2."""
    request: bytes = _REQUEST.pack(
        _REQUEST.size,
        _SOCK_DIAG_BY_FAMILY,
        _NLM_F_REQUEST,
        sequence,
        0,
        death.family,
        _IPPROTO_TCP,
        0,
        0,
        0xFFFFFFFF,
        _PORTS.pack(death.local_port, death.remote_port),
        death.local,
        death.remote,
        death.interface,
        _NO_COOKIE,
    )
    return request


def _open(room: int) -> socket.socket:
    opened = _new_socket()
    try:
        with LeftBehind() as lookup:  # the first question loads the modules tcp_diag and inet_diag
            lookup.states([Death(0, 0, socket.AF_INET, bytes(4), 0, bytes(4), 0, 0, 0, 0, None)])
        opened.setblocking(False)
        _make_room(opened, room)
        opened.bind((0, 0))
        for group in _GROUPS:
            opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError as error:
        opened.close()
        raise SourceRefused(
            f"the kernel does not announce ended sockets: {error.strerror}",
            "it needs the module tcp_diag (modprobe tcp_diag)",
        ) from error
    return opened


def _make_room(opened: socket.socket, room: int) -> None:
    """Ask for as much room as we may have: sysctl net.core.rmem_max, unless CAP_NET_ADMIN."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, room)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)


def _new_socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise SourceRefused(
            f"a netlink socket is refused: {error.strerror}",
            "allow AF_NETLINK (systemd: RestrictAddressFamilies=AF_NETLINK)",
        ) from error
