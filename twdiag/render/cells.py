"""Text in the cells of a terminal: how many it takes, and cut or filled to a number of them."""

from __future__ import annotations

import functools

_CUT = "..."


def width_of(text: str) -> int:
    """Return how many cells a text takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


@functools.lru_cache(maxsize=4096)
def _width(character: str) -> int:
    import unicodedata

    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """Return a text that takes so many cells at most; "..." stands where it was cut."""
    if width_of(text) <= width:
        return text
    if width <= len(_CUT):
        return _CUT[: max(0, width)]
    room, kept = width - len(_CUT), []
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + _CUT


def left(text: str, width: int) -> str:
    """Return a text at the left of a field of so many cells."""
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def right(text: str, width: int) -> str:
    """Return a text at the right of a field of so many cells."""
    text = cut(text, width)
    return " " * (width - width_of(text)) + text


def short_age(seconds: float | None) -> str:
    """Return an age in at most seven characters: "0.4ms", "15ms", "1.25s", "4m10s", "3.1h"."""
    if seconds is None:
        return "-"
    if seconds < 0.0095:
        return f"{seconds * 1000:.1g}ms" if seconds >= 5e-6 else "0s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.9995:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    if seconds < 99.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    if seconds < 5999.5:
        whole = round(seconds)
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f}".removesuffix(".0") + "h"
    return f"{seconds / 86_400:.0f}d"
