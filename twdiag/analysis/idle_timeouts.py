"""Measure after which idle time a listener's connections are closed here, from how they ended."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twdiag.model.idling import IdleEnd

_MOSTLY: Final = 0.8
"""The share of idle connections that a timeout has to explain: the others were closed otherwise."""

_SWEEP: Final = 1.1
_AT_ONCE: Final = 0.1


class IdleTimeout(NamedTuple):
    """An idle timeout as it was measured: between `low` and `high` seconds, at these ends."""

    low: float
    high: float
    ends: tuple[IdleEnd, ...]


def idle_timeout(ends: Sequence[IdleEnd], least: int) -> IdleTimeout | None:
    """Return the idle timeout that ended connections, None where none is to be seen.

    It takes so many ends at least, most of them after the same idle time, and not all in the same
    moment: a server that stops, or loads its settings anew, closes all at once.
    """
    ordered = sorted(ends, key=lambda end: end.idle)
    idles = [end.idle for end in ordered]
    best: Sequence[IdleEnd] = ()
    for first, low in enumerate(idles):
        after = bisect_right(idles, _latest(low))
        if after - first > len(best):
            best = ordered[first:after]
    if len(best) < max(least, 1) or len(best) < _MOSTLY * len(ordered):
        return None
    low, high = best[0].idle, best[-1].idle
    moments = [end.ended_at for end in best]
    if max(moments) - min(moments) <= 2 * (high - low) + _AT_ONCE:
        return None
    return IdleTimeout(low, high, tuple(best))


def _latest(low: float) -> float:
    """Return when a server whose timeout is so long closes at the latest.

    Some look at their idle connections once a second only (Tomcat, Gunicorn's gthread).
    """
    return 1.05 * low + min(0.5 * low, _SWEEP)
