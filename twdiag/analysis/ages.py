"""What the ages of many sockets tell of how they came: at a steady pace, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENOUGH: Final = 50
_EVEN: Final = 0.08
_OUTLIERS: Final = 20
"""One in so many may be older than all others: a connection that lives as long as the process."""
_YOUNG: Final = 0.1
"""What is younger than that share of the oldest may be in use: it says nothing of a leak."""


class Pile(NamedTuple):
    """Sockets that came at a steady pace and stayed: so many each second, the oldest (s).

    Younger ones than `young` may be in use.
    """

    per_second: float
    oldest: float
    young: float = 0.0


def is_even(ages: Sequence[float], low: float, high: float) -> bool:
    """Return whether sorted ages are spread evenly between two bounds, told by their quartiles."""
    quarter, width = len(ages) // 4, high - low
    return all(abs(ages[n * quarter] - low - n / 4 * width) <= _EVEN * width for n in range(4))


def arrivals(ages: Iterable[float]) -> Pile | None:
    """Return at which pace sockets came of which none has left, None where their ages do not tell.

    Their ages are spread evenly from now to the first of them.
    """
    found = sorted(ages)
    if len(found) < _ENOUGH or found[-1] <= 0 or not is_even(found, 0.0, found[-1]):
        return None
    return Pile(len(found) / found[-1], found[-1])


def pile(ages: Iterable[float]) -> Pile | None:
    """Return at which pace idle sockets pile up among others that are in use, None if they do not.

    The ages are how long each has been idle.  Left out are the youngest, which may be in use, and
    the few oldest, which may have been there from the start.
    """
    found = sorted(ages)
    if len(found) < _ENOUGH:
        return None
    oldest = found[len(found) - 1 - len(found) // _OUTLIERS]
    low = _YOUNG * oldest
    old = [age for age in found if low <= age <= oldest]
    if oldest <= 0 or len(old) < _ENOUGH or not is_even(old, low, oldest):
        return None
    return Pile(len(old) / (oldest - low), oldest, low)
