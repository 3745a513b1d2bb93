"""Masks: one byte a row, 1 for the rows meant and 0 for the others."""

from __future__ import annotations

from typing import Final

_INVERTED: Final = b"\x01\x00" + bytes(254)


def table_of(*values: int) -> bytes:
    """Return a table to translate a column of bytes by: to 1 for these values, 0 for the others."""
    return bytes(value in values for value in range(256))


def both(one: bytes, other: bytes) -> bytes:
    """Return the mask of rows that are in both of two masks."""
    number = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def either(one: bytes, other: bytes) -> bytes:
    """Return the mask of rows that are in one of two masks, or in both."""
    number = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def inverted(mask: bytes) -> bytes:
    """Return the mask of the other rows."""
    return mask.translate(_INVERTED)
