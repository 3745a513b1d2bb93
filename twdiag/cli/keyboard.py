"""Keys out of the bytes that a terminal sends."""

from __future__ import annotations

import re
from typing import Final

_SEQUENCE: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")
_BEGUN: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_LENGTHS: Final = ((0xF0, 0xF8, 4), (0xE0, 0xF0, 3), (0xC0, 0xE0, 2))


def keys_of(data: bytes, *, no_more: bool = False) -> tuple[list[str], bytes]:
    """Return the keys in some bytes, and what may be the beginning of another one.

    An arrow is its escape sequence, "\\x1b[A"; Esc is "\\x1b".  With `no_more`, what was begun is
    taken as it stands, since nothing has followed it for a while.
    """
    keys, at = [], 0
    while at < len(data):
        found = _SEQUENCE.match(data, at)
        if found:
            keys.append(found[0].decode("ascii"))
            at = found.end()
            continue
        if not no_more and (_BEGUN.match(data, at) or _is_part(data, at)):
            return keys, data[at:]
        length = 1 if data[at] < 0x80 else _length(data[at])
        keys.append(data[at : at + length].decode("utf-8", "replace"))
        at += length
    return keys, b""


def _length(first: int) -> int:
    """Return how many bytes the character has that begins with one."""
    return next((length for low, high, length in _LENGTHS if low <= first < high), 1)


def _is_part(data: bytes, at: int) -> bool:
    return data[at] >= 0x80 and len(data) - at < _length(data[at])
