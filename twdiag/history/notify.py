"""When `check --notify-on change` speaks: at once where it gets worse, later where it gets better.

A status that goes back and forth between CRITICAL and WARNING is told once.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from twdiag.errors import UsageError

# Something measured as bad outweighs something not seen: as verdict.Status.weight.
_WEIGHT: Final = {"OK": 0, "UNKNOWN": 1, "WARNING": 2, "CRITICAL": 3}
_DURATION: Final = re.compile(r"([0-9]{1,6})(s|m|h|d)?", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Told(NamedTuple):
    """The status that was last told, and when by the wall clock."""

    status: str
    at: float


def has_to_speak(
    told: Told | None, last: str | None, status: str, now: float, again_after: float | None
) -> bool:
    """Return whether a run has to tell its status.

    `told` is what was told last, None where nothing ever was; `last` is the status of the run
    before this one, `again_after` the seconds after which a problem that lasts is told again.
    """
    known = "OK" if told is None else told.status
    if status == known:
        return _is_due(told, status, now, again_after)
    if status == "OK" or _WEIGHT[status] > _WEIGHT[known]:
        return True
    # Better, but not well: it has to hold for a second run.
    if last is not None and _WEIGHT[last] < _WEIGHT[known]:
        return True
    return _is_due(told, status, now, again_after)


def _is_due(told: Told | None, status: str, now: float, again_after: float | None) -> bool:
    if status == "OK" or told is None or again_after is None:
        return False
    # A clock that was set back says nothing of how long it was: tell it once more.
    return not 0 <= now - told.at < again_after


def parse_duration(text: str, origin: str) -> float:
    """Return the seconds that "4h", "30m", "90s", "1d" or "90" mean; raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"{origin}: {text!r} is not a time", "write 4h, 30m, 90s or 1d")
    return float(int(found[1]) * _SECONDS[found[2] or "s"])
