"""The port budget: how many local ports connect() can hand out towards one destination.

Kernel: __inet_hash_connect() in net/ipv4/inet_hashtables.c.  A port is free for a destination if it
is in ip_local_port_range, not in ip_local_reserved_ports, not owned by an explicitly bound socket
on any local address, and (source, port, destination, destination port) is not taken.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DEFAULT_RANGE: Final = (32768, 60999)
DEFAULT_REUSE_DELAY_MS: Final = 1000
"""How old a TIME_WAIT must be for tcp_tw_reuse where tcp_tw_reuse_delay (Linux 6.14) is absent."""


class PortBudget:
    """The ports that connect() may use.

    `low`..`high` is ip_local_port_range (both included); `reserved` and `blocked` are the ports in
    it that reservations and bound sockets take away.
    """

    def __init__(
        self, low: int, high: int, reserved: frozenset[int], blocked: frozenset[int]
    ) -> None:
        self.low = low
        self.high = high
        self.reserved = reserved
        self.blocked = blocked

    @classmethod
    def of(cls, sysctls: Mapping[str, str], bound: Collection[int]) -> PortBudget:
        """Return the budget from the sysctls and the ports of bound sockets and listeners.

        A range that was not seen or makes no sense gives Linux's default; rules that rest on the
        budget name the sysctl in their needs, so they are skipped then.
        """
        low, high = parse_range(sysctls.get("net.ipv4.ip_local_port_range", "")) or DEFAULT_RANGE
        reserved = {
            port
            for first, last in parse_ports(sysctls.get("net.ipv4.ip_local_reserved_ports", ""))
            for port in range(max(first, low), min(last, high) + 1)
        }
        blocked = {port for port in bound if low <= port <= high} - reserved
        return cls(low, high, frozenset(reserved), frozenset(blocked))

    @property
    def size(self) -> int:
        """Ports in the range."""
        return self.high - self.low + 1

    @property
    def ports(self) -> int:
        """Ports that connect() can use towards one destination."""
        return self.size - len(self.reserved) - len(self.blocked)

    @cached_property
    def usable_mask(self) -> bytes:
        """One byte for each port number: 1 where connect() can hand the port out."""
        mask = bytearray(1 << 16)
        mask[self.low : self.high + 1] = b"\x01" * self.size
        for port in self.reserved | self.blocked:
            mask[port] = 0
        return bytes(mask)

    def __contains__(self, port: int) -> bool:
        return self.low <= port <= self.high


def parse_range(text: str) -> tuple[int, int] | None:
    """Return (low, high) of "32768 60999", None where the text is no such range."""
    words = text.split()
    if len(words) != 2:
        return None
    low, high = _port(words[0]), _port(words[1])
    return (low, high) if low and high and low <= high else None


def parse_ports(text: str) -> list[tuple[int, int]]:
    """Return [(first, last), ...] of "8080,9000-9010"; parts that make no sense are left out."""
    ranges = []
    for part in text.replace(",", " ").split():
        word, _, last_word = part.partition("-")
        first, last = _port(word), _port(last_word or word)
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges


def _port(word: str) -> int | None:
    """Return a port number, None where the word is none; digits of other scripts are none."""
    if not (word.isascii() and word.isdigit() and len(word) <= 5):
        return None
    number = int(word)
    return number if number <= 0xFFFF else None


def format_ports(ports: Collection[int]) -> str:
    """Return "8080,9000-9010": the shortest form in which the kernel takes a set of ports."""
    ranges: list[list[int]] = []
    for port in sorted(ports):
        if ranges and port == ranges[-1][1] + 1:
            ranges[-1][1] = port
        else:
            ranges.append([port, port])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
