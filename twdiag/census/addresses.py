"""Addresses as the kernel writes them, and as text."""

from __future__ import annotations

import socket
import struct
from typing import Final

MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one: ::ffff:0:0/96."""

_WORD: Final = struct.Struct("=I")


def word(raw: bytes) -> int:
    """Return 4 bytes as the native 32-bit word that stands in memory."""
    number: int = _WORD.unpack(raw)[0]
    return number


def bytes_of(number: int) -> bytes:
    """Return the 4 bytes of a native word."""
    return _WORD.pack(number)


def is_link_local(raw: bytes) -> bool:
    """Return whether 16 bytes are in fe80::/10: such an address means nothing without a scope."""
    return raw[0] == 0xFE and raw[1] & 0xC0 == 0x80


def is_loopback(address: str) -> bool:
    """Return whether an address is 127.0.0.0/8 or ::1; v4-mapped ones are IPv4 already."""
    return address == "::1" or address.startswith("127.")


def text_of(raw: bytes, scope: int = 0) -> str:
    """Return an address of 4 or 16 bytes as text; v4-mapped ones as IPv4, link-local with scope."""
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    if raw.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    text = socket.inet_ntop(socket.AF_INET6, raw)
    return f"{text}%{scope}" if scope and is_link_local(raw) else text


def bytes_of_text(text: str) -> tuple[bytes, int]:
    """Return (4 or 16 bytes, scope) of an address; raises ValueError where the text is none.

    A scope is a number: names of interfaces are another host's or another moment's.
    """
    plain, percent, scope = text.partition("%")
    if percent and not (scope.isascii() and scope.isdigit() and int(scope) < 1 << 32):
        raise ValueError(f"not the number of an interface: {scope[:40]!r}")
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    try:
        raw = socket.inet_pton(family, plain)
    except (OSError, UnicodeEncodeError) as error:
        raise ValueError(f"not an address: {text[:80]!r}") from error
    if raw.startswith(MAPPED):
        raw = raw[12:]
    return raw, int(scope or 0)
