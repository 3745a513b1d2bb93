"""Numbers for addresses, so that a column of a table can hold them."""

from __future__ import annotations

import socket as _socket
import struct
from array import array
from itertools import compress, count, filterfalse, islice
from operator import eq, itemgetter
from typing import TYPE_CHECKING, Final

from twdiag.census.columns import plane_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FIRST_IPV6: Final = 1 << 32
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
_LINK_LOCAL: Final = 0xFE80

# The low 32 bits of these numbers are class E addresses, which no connected socket has.
_FIRST_LOOSE: Final = 0x1_F000_0000
_MOST_TOLD_APART: Final = 65_536


def is_ipv6(number: int) -> bool:
    """Return whether an address number stands for an IPv6 address (v4-mapped ones do not)."""
    return number >= _FIRST_IPV6


class Addresses:
    """Numbers for addresses: an IPv4 address is its own number, an IPv6 one is numbered as seen.

    Numbers below 2**32 are IPv4 addresses in host order, so that ranges are plain comparisons.
    A link-local address keeps its interface, since it means nothing without it.

    A host can have hundreds of thousands of IPv6 clients, whose numbers would take more memory than
    their sockets' rows.  So beyond the first 65,536 IPv6 addresses, those of closed connections are
    loose: each row has a number of its own, until settle() finds the addresses of several rows.
    """

    def __init__(self) -> None:
        # A scoped address is its 16 bytes and 4 of its interface.
        self._ids: dict[bytes, int] = {}
        self._raws: list[bytes] = []
        self._loose = bytearray()

    def of_bytes(self, raw: bytes, interface: int = 0) -> int:
        """Return the number of a 4-byte or 16-byte address in network order."""
        if len(raw) == 4:
            return int.from_bytes(raw, "big")
        if raw.startswith(_MAPPED_PREFIX):
            return int.from_bytes(raw[12:], "big")
        if interface and (raw[0] << 8 | raw[1]) & 0xFFC0 == _LINK_LOCAL:
            raw += struct.pack("!I", interface)
        return self._number(raw)

    def of_global(self, raws: list[bytes]) -> Iterable[int]:
        """Return the numbers of 16-byte addresses, none of them v4-mapped or link-local.

        A host with hundreds of thousands of IPv6 clients needs them at C speed.
        """
        new = list(set(raws).difference(self._ids))
        self._ids.update(zip(new, count(_FIRST_IPV6 + len(self._raws))))
        self._raws.extend(new)
        return map(self._ids.__getitem__, raws)

    @property
    def are_many(self) -> bool:
        """Whether there are so many IPv6 addresses that further ones should be loose."""
        return len(self._raws) >= _MOST_TOLD_APART

    def loosen(self, raws: list[bytes]) -> int:
        """Keep 16-byte addresses, one for each row; return the place of the first.

        As with of_global(), none of the addresses is v4-mapped or link-local.
        """
        self._loose += b"".join(raws)
        return len(self._loose) // 16 - len(raws)

    def forget_loose(self, place: int) -> None:
        """Drop the loose addresses from a place on."""
        del self._loose[16 * place :]

    def of_loose(self, place: int, rows: int) -> Iterable[int]:
        """Return the numbers of loose addresses: an address's own if it has one, else the row's."""
        raws = self._loose_raws(place, place + rows)
        return map(self._ids.get, raws, count(_FIRST_LOOSE + place))

    def settle(self) -> None:
        """Give a number of its own to each loose address that has several rows.

        Several are two, or four, eight and so on until no more than 65,536 addresses have so many.
        """
        hashes, several = array("q", map(hash, self._unnumbered())), 2
        while len(found := _frequent(hashes, several, _MOST_TOLD_APART)) > _MOST_TOLD_APART:
            several *= 2
        self.of_global(list(set(compress(self._unnumbered(), map(found.__contains__, hashes)))))

    def _unnumbered(self) -> Iterator[bytes]:
        return filterfalse(self._ids.__contains__, self._loose_raws())

    def _loose_raws(self, place: int = 0, end: int | None = None) -> Iterator[bytes]:
        with memoryview(self._loose) as view:
            part = bytes(view[16 * place : None if end is None else 16 * end])
        return map(itemgetter(0), struct.iter_unpack("16s", part))

    def _number(self, raw: bytes) -> int:
        number = self._ids.get(raw)
        if number is None:
            number = _FIRST_IPV6 + len(self._raws)
            self._ids[raw] = number
            self._raws.append(raw)
        return number

    def of_text(self, text: str) -> int:
        """Return the number of an address in text form; ValueError where it is none."""
        plain, _, scope = text.partition("%")
        try:
            if ":" not in plain:
                return self.of_bytes(_socket.inet_pton(_socket.AF_INET, plain))
            raw = _socket.inet_pton(_socket.AF_INET6, plain)
        except OSError as error:
            raise ValueError(f"not an IP address: {text!r}") from error
        return self.of_bytes(raw, int(scope) if scope.isdigit() else 0)

    @property
    def ipv6_count(self) -> int:
        """How many IPv6 addresses have a number; they follow each other, the loose ones apart."""
        return len(self._raws)

    def text(self, number: int) -> str:
        """Return the plain text of an address number."""
        if number < _FIRST_IPV6:
            return _socket.inet_ntoa(struct.pack("!I", number))
        at = 16 * (number - _FIRST_LOOSE)
        raw = self._raws[number - _FIRST_IPV6] if at < 0 else bytes(self._loose[at : at + 16])
        text = _socket.inet_ntop(_socket.AF_INET6, raw[:16])
        return f"{text}%{int.from_bytes(raw[16:], 'big')}" if len(raw) > 16 else text


def _frequent(hashes: array[int], times: int, most: int) -> set[int]:
    """Return the hashes that occur so often or more, or somewhat more than `most` of them.

    Sorted, equal ones are neighbours; in eight parts, since a list of all would take more memory
    than anything else.
    """
    found: set[int] = set()
    low = plane_of(hashes, 0)
    for part in range(8):
        mask = low.translate(bytes(number % 8 == part for number in range(256)))
        ordered = sorted(compress(hashes, mask))
        found.update(compress(ordered, map(eq, ordered, islice(ordered, times - 1, None))))
        if len(found) > most:
            break
    return found
