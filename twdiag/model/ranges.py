"""Nagios threshold ranges: `10`, `10:`, `~:10`, `10:20` and `@10:20`.

Monitoring Plugins development guidelines, "Threshold and Ranges".
"""

from __future__ import annotations

import math
import re
from typing import Final

from twdiag.errors import UsageError
from twdiag.named import NamedTuple

_NUMBER: Final = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_EXAMPLES: Final = "ranges are 10 (0 to 10 is fine), 10:, ~:10, 10:20, or @10:20 (inside is bad)"


class Range(NamedTuple):
    """The values from `start` to `end`, both included; with `inside` those are the bad ones."""

    start: float
    end: float
    inside: bool = False

    def alerts(self, value: float) -> bool:
        """Return whether a value is a bad one."""
        return (self.start <= value <= self.end) is self.inside

    def __str__(self) -> str:
        """Return the range as Nagios writes it."""
        start = "" if self.start == 0 else "~:" if self.start == -math.inf else None
        if start is None or (start == "" and self.end == math.inf):
            start = f"{number(self.start)}:"
        end = "" if self.end == math.inf else number(self.end)
        return f"{'@' if self.inside else ''}{start}{end}"


def parse_range(text: str) -> Range:
    """Return the range that a text means; raises UsageError where it means none."""
    spec = text.strip()
    inside = spec.startswith("@")
    low, _, high = spec[inside:].rpartition(":")
    if not (low or high) or ":" in low:
        raise UsageError(f"{text!r} is not a range", _EXAMPLES)
    start = -math.inf if low == "~" else _bound(low, text) if low else 0.0
    end = _bound(high, text) if high else math.inf
    if start > end:
        raise UsageError(
            f"the range {text!r} starts above its end",
            f"write {high}:{low} if you mean what lies between",
        )
    return Range(start, end, inside)


def _bound(word: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, word, re.ASCII):
        raise UsageError(f"{text!r} is not a range: {word!r} is not a number", _EXAMPLES)
    value = float(word)
    if math.isinf(value):
        raise UsageError(f"{text[:40]!r}... is not a range: its number is too large", _EXAMPLES)
    return value


def number(value: float) -> str:
    """Return a number with a decimal point and without an exponent, as perfdata wants it."""
    if value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")
