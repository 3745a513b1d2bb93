"""Ask the kernel what stands under the addresses of sockets that have died."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceRefused
from twdiag.sources.live.tracing.announcement import DATAGRAM, HEADER, SOCK_DIAG_BY_FAMILY
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from twdiag.model.closes import Death

_NETLINK_SOCK_DIAG: Final = 4
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_IPPROTO_TCP: Final = 6
_PORTS: Final = struct.Struct(">HH")
_REQUEST: Final = struct.Struct("=IHHIIBBBBI4s16s16sI8s")
_NO_COOKIE: Final = b"\xff" * 8
_AT_ONCE: Final = 64


class LeftBehind:
    """Asks the kernel what stands under the addresses of sockets that have died.

    A lookup of single rows, whose cost does not depend on how many sockets there are.
    """

    def __enter__(self) -> LeftBehind:
        self._socket = new_socket()
        self._socket.settimeout(1.0)
        self._buffer = bytearray(DATAGRAM)
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
    while place + HEADER.size <= len(datagram):
        length, kind, _, sequence, _ = HEADER.unpack_from(datagram, place)
        if length < HEADER.size:
            return
        state = None
        if kind == SOCK_DIAG_BY_FAMILY and place + HEADER.size + 2 <= len(datagram):
            with contextlib.suppress(ValueError):
                state = State(datagram[place + HEADER.size + 1])
            yield sequence, state
        elif kind == _NLMSG_ERROR:
            yield sequence, None
        place += (length + 3) & ~3


def _encode(death: Death, sequence: int) -> bytes:
    """Return the request for exactly one row (no NLM_F_DUMP): struct inet_diag_req_v2."""
    request: bytes = _REQUEST.pack(
        _REQUEST.size,
        SOCK_DIAG_BY_FAMILY,
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


def new_socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise SourceRefused(
            f"a netlink socket is refused: {error.strerror}",
            "allow AF_NETLINK (systemd: RestrictAddressFamilies=AF_NETLINK)",
        ) from error
