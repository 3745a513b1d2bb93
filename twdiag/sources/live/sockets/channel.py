"""A netlink socket that dumps sockets, one dump after the other."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live.sockets import inet_diag
from twdiag.sources.live.sockets.inet_diag import AF_INET, AF_INET6, Dump, Interrupted, may_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import TypeVar

    from twdiag.model.sockets import Socket
    from twdiag.sources.live.sockets.blocks import Block

    T = TypeVar("T")

_NETLINK_SOCK_DIAG: Final = 4
# The kernel fills up to 32 KiB a datagram, but only once it has seen a buffer of that size
# (netlink_recvmsg() keeps the largest as max_recvmsg_len); a smaller one would cut rows.
_BUFFER: Final = 65536
_BATCH: Final = 1 << 18
_CUT: Final = int(socket.MSG_TRUNC)  # an enumeration is slow to compute with
_QUIET_SECONDS: Final = 5.0
TRIES: Final = 3
"""How often a dump that lost rows, or that the kernel calls inconsistent, is taken."""


class Channel:
    """A netlink socket that takes one dump after the other."""

    def __init__(self) -> None:
        self._socket = _open()
        self._buffer = bytearray(_BATCH + _BUFFER)
        self._seq = 0
        self._one_walk = True
        self.interrupted = False
        """Whether the kernel called the last dumps inconsistent."""

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def reopen(self) -> None:
        """Take a new socket: the kernel refuses another dump (EBUSY) while one is unfinished."""
        self._socket.close()
        self._socket = _open()

    def read(
        self, states: int, *, info: bool = False, auto_bound_only: bool = False
    ) -> Iterator[Block]:
        """Yield the sockets of both families: one walk of the kernel's table, else one for each.

        A kernel without IPv6 refuses its dump, and has no such sockets.
        """
        self.interrupted = False
        if self._one_walk:
            request = inet_diag.encode_both_families(
                states, info=info, auto_bound_only=auto_bound_only, seq=self._next()
            )
            given = False
            try:
                for block in self._dump(request):
                    given = True
                    yield block
                return
            except SourceRefused as error:
                self._one_walk = False
                self.reopen()
                if given:  # a walk for each family would give those rows again
                    raise Interrupted(error.what, error.next_step) from error
        for family in (AF_INET, AF_INET6):
            try:
                yield from self.read_family(
                    family, states, info=info, auto_bound_only=auto_bound_only
                )
            except SourceRefused:
                if family == AF_INET or os.path.exists("/proc/net/if_inet6"):
                    raise

    def read_family(
        self,
        family: int,
        states: int,
        *,
        info: bool = False,
        auto_bound_only: bool = False,
        protocol: int = inet_diag.IPPROTO_TCP,
    ) -> Iterator[Block]:
        """Yield the sockets of one family and protocol."""
        yield from self._dump(
            inet_diag.encode_request(
                family,
                states,
                info=info,
                auto_bound_only=auto_bound_only,
                protocol=protocol,
                seq=self._next(),
            )
        )

    def look_up(self, wanted: Socket) -> Socket | None:
        """Return one socket as it is now, with its ages; None where it is gone or refused."""
        try:
            self._socket.sendto(inet_diag.encode_lookup(wanted, self._next()), (0, 0))
            return inet_diag.decode_lookup(bytes(self._receive()), self._seq)
        except (OSError, SourceError):
            return None

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _dump(self, request: bytes) -> Iterator[Block]:
        dump = Dump(self._seq)
        try:
            self._socket.sendto(request, (0, 0))
            while not dump.done:
                yield from dump.feed(self._receive())
        except TimeoutError as error:
            raise SourceError(
                f"the kernel stopped answering the socket dump for {_QUIET_SECONDS:.0f} s",
                "run again, or use --source proc",
            ) from error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Interrupted("the kernel dropped a part of the socket dump") from error
            raise SourceRefused(
                f"the kernel refuses the socket dump: {error.strerror}", "use --source proc"
            ) from error
        finally:
            self.interrupted |= dump.interrupted

    def _receive(self) -> memoryview:
        """Return the next datagrams, one behind the other: decoding many rows at once is faster."""
        view, used = memoryview(self._buffer), 0
        while used < _BATCH:
            free = view[used : used + _BUFFER]
            received, _, flags, sender = self._socket.recvmsg_into([free])
            if sender[0]:
                continue  # another process may send to this socket; the kernel is number 0
            if flags & _CUT or not received:
                raise SourceError("the kernel sent a datagram of an unexpected size")
            used += received
            if received % 4 or may_end(free[:received]):
                break
        return view[:used]


def _open() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise SourceRefused(
            f"a netlink socket is refused: {error.strerror}",
            "allow AF_NETLINK (systemd: RestrictAddressFamilies=AF_NETLINK) or use --source proc",
        ) from error
    opened.settimeout(_QUIET_SECONDS)
    return opened


def again(channel: Channel, take: Callable[[], T]) -> T:
    """Return what a call takes of a dump; one that lost rows is taken again."""
    for _ in range(TRIES - 1):
        try:
            return take()
        except Interrupted:
            channel.reopen()
    return take()
