"""Read the kernel's announcements of TCP sockets that it lets go of: any user, own namespace.

Groups SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY of NETLINK_SOCK_DIAG, one message for
each full socket with its struct tcp_info (include/uapi/linux/sock_diag.h, inet_diag.h, tcp.h).
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.closes import Death
from twdiag.sources.live.tracing.announcement import DATAGRAM, Decoder
from twdiag.sources.live.tracing.left_behind import LeftBehind, new_socket

if TYPE_CHECKING:
    from types import TracebackType

_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_GROUPS: Final = (1, 3)  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_MEMINFO_DROPS: Final = 8  # SK_MEMINFO_DROPS
ROOM: Final = 1 << 25
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
        self._buffer = bytearray(DATAGRAM)
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


def _open(room: int) -> socket.socket:
    opened = new_socket()
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
