"""The listeners, and what each local port is: one for connect() to hand out, theirs, or another."""

from __future__ import annotations

import sys
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from twdiag.census.masks import both, either
from twdiag.model.census import Listener

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping

    from twdiag.model.ports import PortBudget
    from twdiag.model.sockets import Socket

USABLE, LISTENING, OTHER, PARTLY = 1, 2, 4, 8
"""The kinds of a port: connect() may hand it out, somebody listens on it, neither.

PARTLY: somebody listens on it, but only at some of the addresses of the host.
"""

_ANYWHERE: Final = ("0.0.0.0", "::")
_FEW_ROWS, _FEW_BLOCKS = 256, 4
"""Of fewer rows, or where they are in more blocks of several kinds, each port is looked up."""
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


def listeners_of(sockets: Iterable[Socket]) -> dict[tuple[str, int], Listener]:
    """Return the listeners by (address, port), SO_REUSEPORT copies folded into one."""
    copies: dict[tuple[str, int], list[Socket]] = {}
    for socket in sockets:
        copies.setdefault((socket.local_address, socket.local_port), []).append(socket)
    found = {}
    for (address, port), same in copies.items():
        dual = address == "::" and not all(socket.v6only for socket in same)
        any_ipv4, any_ipv6 = address == "0.0.0.0" or dual, address == "::"
        found[address, port] = Listener(address, port, tuple(same), any_ipv4, any_ipv6)
    return found


def find_listener(
    listeners: Mapping[tuple[str, int], Listener], address: str, port: int
) -> Listener | None:
    """Return the listener that a local address and port belong to, the most specific first."""
    for candidate in (address, *_ANYWHERE):
        listener = listeners.get((candidate, port))
        if listener is not None and listener.takes(address):
            return listener
    return None


class PortKinds:
    """What each of the 65,536 ports is, looked up for thousands of rows at a time.

    A port's high byte tells its block of 256, and nearly every block is of one kind: only rows in
    the others, a listener's say, need the low byte too.
    """

    def __init__(self, kinds: bytes) -> None:
        self.kinds = kinds

    @cached_property
    def _alike(self) -> bytes:
        """The kind of each block, 0 where its ports differ."""
        blocks = [self.kinds[first : first + 256] for first in range(0, len(self.kinds), 256)]
        return bytes(b[0] if b.count(b[0]) == len(b) else 0 for b in blocks)

    @cached_property
    def _mixed(self) -> list[int]:
        """The numbers of the blocks whose ports differ."""
        return [number for number, kind in enumerate(self._alike) if not kind]

    def kinds_of(self, ports: array[int]) -> bytes:
        """Return the kind of each port of a column."""
        raw = ports.tobytes()
        high, low = raw[_HIGH::2], raw[_LOW::2]
        few_rows = len(ports) < _FEW_ROWS
        mixed = [] if few_rows else [number for number in self._mixed if number in high]
        if few_rows or len(mixed) > _FEW_BLOCKS:
            # One more item, dropped again: for a single item itemgetter() returns no tuple.
            return bytes(itemgetter(*ports, 0)(self.kinds)[:-1])
        kinds = high.translate(self._alike)
        for number in mixed:
            here = high.translate(bytes(number) + b"\xff" + bytes(255 - number))
            block = self.kinds[number << 8 : number + 1 << 8]
            kinds = either(kinds, both(here, low.translate(block)))
        return kinds


def port_kinds(budget: PortBudget, listeners: Iterable[Listener], *, ipv6: bool) -> bytes:
    """Return the kind of each of the 65,536 ports, as it is to sockets of one family."""
    kinds = bytearray(budget.usable_mask.translate(bytes([OTHER, USABLE]) + bytes(254)))
    partly, anywhere = set[int](), set[int]()
    for listener in listeners:
        if listener.any_ipv6 if ipv6 else listener.any_ipv4:
            anywhere.add(listener.port)
        elif listener.address not in _ANYWHERE and (":" in listener.address) is ipv6:
            partly.add(listener.port)
    for port in partly | anywhere:
        kinds[port] = LISTENING if port in anywhere else PARTLY
    return bytes(kinds)
