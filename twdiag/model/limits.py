"""The thresholds of the rules: what each means, its default, and the values in force."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from twdiag.errors import UsageError
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Limit(NamedTuple):
    """One threshold; a value must lie in `low`..`high` (both allowed)."""

    name: str
    default: float
    unit: str
    meaning: str
    low: float = 0.0
    high: float = 1e9


def ratio(name: str, default: float, meaning: str) -> Limit:
    """Return a limit that is a share of 1."""
    return Limit(name, default, "ratio", meaning, 0.0, 1.0)


def sockets(name: str, default: int, meaning: str) -> Limit:
    """Return a limit that is a number of sockets."""
    return Limit(name, default, "sockets", meaning, 1)


def seconds(name: str, default: float, meaning: str) -> Limit:
    """Return a limit that is a time."""
    return Limit(name, default, "s", meaning)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean X?" for a misspelt word, or nothing where no name is near."""
    close = closest(word, names)
    return f"; did you mean {close!r}?" if close else ""


def closest(word: str, names: Iterable[str]) -> str:
    """Return the name that a misspelt word is nearest to, "" where none is near."""
    return next(iter(difflib.get_close_matches(word, list(names), 1, 0.6)), "")


class Limits:
    """The limits in force: `limits[limit]` is a value, `limits.origin(name)` where it comes from.

    `known` are all limits that there are, for those who set or list them by name.
    """

    def __init__(
        self,
        known: Iterable[Limit] = (),
        values: Mapping[str, float] | None = None,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.known = {limit.name: limit for limit in known}
        self._values = dict(values or {})
        self._origins = dict(origins or {})

    def __getitem__(self, limit: Limit | str) -> float:
        found = self.known[limit] if isinstance(limit, str) else limit
        return self._values.get(found.name, found.default)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, those of all limits there are."""
        return iter(self.known)

    def origin(self, name: str) -> str:
        """Return where a value comes from: "default", a file, an environment variable or a flag."""
        return self._origins.get(name, "default")

    def replaced(self, values: Mapping[str, object], origin: str) -> Limits:
        """Return limits with some values replaced.

        Raises UsageError, naming the origin and the limit, for an unknown name, a value that is not
        a number, or one out of range.
        """
        checked = {}
        for raw_name, raw in values.items():
            name = raw_name.strip().lower().replace("_", "-")
            checked[name] = _check(self.known, name, raw, origin)
        origins = self._origins | dict.fromkeys(checked, origin)
        return Limits(self.known.values(), self._values | checked, origins)

    def in_order(self) -> Limits:
        """Return the limits; raises UsageError where a warning would come after its critical."""
        for name, limit in self.known.items():
            stem, _, word = name.rpartition("-")
            later = self.known.get(f"{stem}-critical") if word == "warning" else None
            if later is not None and self[limit] > self[later]:
                raise UsageError(
                    f"{self.origin(name)}: {name} is {self[limit]:g}, above {later.name} "
                    f"({self[later]:g})",
                    "a warning has to come first",
                )
        return self


def _check(known: Mapping[str, Limit], name: str, raw: object, origin: str) -> float:
    limit = known.get(name)
    if limit is None:
        raise UsageError(
            f"{origin}: there is no limit {name!r}{nearest(name, known)}",
            "list them with: twdiag check --show-limits",
        )
    try:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            raise ValueError
        value = _number(raw, limit)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{origin}: {name} needs a number, not {raw!r}", f"its default is {limit.default:g}"
        ) from None
    if not limit.low <= value <= limit.high:  # also refuses nan
        raise UsageError(
            f"{origin}: {name} must lie between {limit.low:g} and {limit.high:g}, not {value:g}",
            f"its default is {limit.default:g}",
        )
    return value


def _number(raw: float | str, limit: Limit) -> float:
    """Return a number; a share may be written in percent, "70%"."""
    if isinstance(raw, str) and limit.unit == "ratio" and raw.strip().endswith("%"):
        return float(raw.strip()[:-1]) / 100
    return float(raw)


def parse_limit_flags(flags: Iterable[str]) -> dict[str, str]:
    """Return {"name": "value"} of NAME=VALUE words; raises UsageError where a word is not one."""
    values = {}
    for flag in flags:
        name, equals, value = flag.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(
                f"--limit needs NAME=VALUE, not {flag!r}", "for example --limit ports-warning=0.8"
            )
        values[name] = value
    return values
