"""Times as they are written on the command line: "30s", "5m", "1h"."""

from __future__ import annotations

import math
import re
from typing import Final

from twdiag.errors import UsageError

_UNITS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_LONGEST: Final = 366 * 86_400


def parse_time(text: str, option: str = "--for") -> float:
    """Return "30s", "5m", "1h" or "90" in seconds.  Raises UsageError for any other."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.strip())
    unit = _UNITS.get(found[2]) if found else None
    seconds = float(found[1]) * unit if found and unit else math.nan
    if not 0 < seconds <= _LONGEST:
        raise UsageError(
            f"{option} {text!r} is not a time above 0 and up to a year", "say 30s, 5m or 1h"
        )
    return seconds
