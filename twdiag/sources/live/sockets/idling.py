"""Read how long the established connections of listeners have been idle: struct tcp_info.

Layout: include/uapi/linux/inet_diag.h (struct inet_diag_msg), include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.addresses import text_of
from twdiag.census.listeners import find_listener, listeners_of
from twdiag.model.idling import Standing
from twdiag.sources.live.sockets.inet_diag import state_bits
from twdiag.sources.live.sockets.netlink import read_rows
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from twdiag.model.census import Listener
    from twdiag.sources.live.sockets.blocks import Block

_ROW: Final = struct.Struct("=16xB3x2s2s16s16sIQ20x")  # up to the attributes
_ATTRIBUTE: Final = struct.Struct("=HH")
_INFO: Final = 2
# last_data_sent, last_data_recv, bytes_received
_AGES: Final = struct.Struct("=44xI4xI72xQ")
_AF_INET: Final = 2
_ANYTHING: Final = range(65536)


class StandingConnections(NamedTuple):
    """The established connections of the listeners, and the ports that these listen on."""

    standing: list[Standing]
    ports: frozenset[int]


def read_standing(ports: Collection[int] = ()) -> StandingConnections:
    """Return the established connections of the listeners on some ports, or on all.

    Raises SourceRefused where the kernel (or a seccomp filter) does not allow the dump, SourceError
    where it cannot be understood.
    """
    sockets = read_rows(state_bits(State.LISTEN), lambda block: block.sockets())
    wanted = ports or _ANYTHING
    listeners = listeners_of(socket for socket in sockets if socket.local_port in wanted)
    listening = frozenset(port for _, port in listeners)
    if not listening:
        return StandingConnections([], listening)
    standing = read_rows(
        state_bits(State.ESTABLISHED), lambda block: standing_of(block, listeners), info=True
    )
    return StandingConnections(standing, listening)


def standing_of(block: Block, listeners: Mapping[tuple[str, int], Listener]) -> Iterator[Standing]:
    """Yield those connections of a block that belong to one of some listeners.

    A row without struct tcp_info, or with one of a kernel before Linux 4.1, is left out.
    """
    listening = {port for _, port in listeners}
    raw, length = block.words.tobytes(), block.length
    for start in range(0, length * block.size, length):
        family, port, remote_port, local, remote, interface, cookie = _ROW.unpack_from(raw, start)
        number = int.from_bytes(port, "big")
        if number not in listening:
            continue
        ages = _ages(raw, start + _ROW.size, start + length)
        address = _text(family, local, interface)
        if ages is None or find_listener(listeners, address, number) is None:
            continue
        sent, received_at, received = ages
        yield Standing(
            address,
            number,
            _text(family, remote, interface),
            int.from_bytes(remote_port, "big"),
            cookie,
            min(sent, received_at) / 1e3,
            bool(received) and sent <= received_at,
            received,
        )


def _ages(raw: bytes, at: int, end: int) -> tuple[int, int, int] | None:
    """Return (ms since data was sent, since it was received, bytes received) of a row."""
    while at + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(raw, at)
        if size < _ATTRIBUTE.size or at + size > end:
            return None
        if kind & 0x3FFF == _INFO:
            start = at + _ATTRIBUTE.size
            whole = size - _ATTRIBUTE.size >= _AGES.size
            return _AGES.unpack_from(raw, start) if whole else None
        at += (size + 3) & ~3
    return None


@lru_cache(maxsize=4096)
def _text(family: int, raw: bytes, interface: int) -> str:
    return text_of(raw[:4] if family == _AF_INET else raw, interface)
