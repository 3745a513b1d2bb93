"""The thresholds of the rules: what each means, its default, and the values in force."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import UsageError

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


def _ratio(name: str, default: float, meaning: str) -> Limit:
    return Limit(name, default, "ratio", meaning, 0.0, 1.0)


def _count(name: str, default: int, meaning: str) -> Limit:
    return Limit(name, default, "sockets", meaning, 1)


def _seconds(name: str, default: float, meaning: str) -> Limit:
    return Limit(name, default, "s", meaning)


LIMITS: Final[tuple[Limit, ...]] = (
    _count("server-closes-first", 20, "sockets of one listener that this host closed first"),
    _ratio("server-closes-first-table", 0.5, "share of tcp_max_tw_buckets that one listener fills"),
    _ratio("time-wait-table-warning", 0.7, "TIME_WAIT as a share of tcp_max_tw_buckets"),
    _ratio("time-wait-table-critical", 0.9, "TIME_WAIT as a share of tcp_max_tw_buckets"),
    Limit(
        "time-wait-rising-factor",
        2.0,
        "times",
        "closing rate of the last 10 s against that of the 50 s before",
        1.0,
    ),
    _ratio("time-wait-rising-table", 0.1, "where the rate settles, as a share of the table"),
    _ratio("ports-notice", 0.5, "ports used to one destination; connect() slows down from here on"),
    _ratio("ports-warning", 0.7, "ports used to one destination that cannot be reused"),
    _ratio("ports-critical", 0.9, "ports used to one destination that cannot be reused"),
    _ratio("bound-ports-notice", 0.7, "distinct local ports in use on one source address"),
    _ratio("bound-ports-warning", 0.8, "distinct local ports in use on one source address"),
    _count("connection-churn", 500, "connections to one destination closed here in a minute"),
    _seconds("close-wait-age", 10, "a CLOSE_WAIT younger than this is nobody's leak"),
    _count("close-wait-notice", 5, "old CLOSE_WAIT sockets of one process"),
    _count("close-wait-warning", 50, "CLOSE_WAIT sockets of one process older than the next limit"),
    _seconds("close-wait-warning-age", 60, "age from which close-wait-warning counts"),
    _ratio("close-wait-fds-warning", 0.5, "CLOSE_WAIT sockets as a share of the fd limit"),
    _ratio("close-wait-fds-critical", 0.9, "CLOSE_WAIT sockets as a share of the fd limit"),
    _ratio("fds-warning", 0.8, "open descriptors of a process as a share of its fd limit"),
    _ratio("fds-critical", 0.95, "open descriptors of a process as a share of its fd limit"),
    _seconds("fds-warning-seconds", 900, "time until CLOSE_WAIT fills the fd limit, two samples"),
    _seconds("fds-critical-seconds", 300, "time until CLOSE_WAIT fills the fd limit, two samples"),
    _seconds("fin-wait2-age", 10, "a FIN_WAIT2 younger than this waits normally"),
    _count("fin-wait2-held-notice", 5, "old half-closed sockets that a process holds"),
    _count("fin-wait2-held-warning", 50, "old half-closed sockets that a process holds"),
    _count("fin-wait2-orphans-notice", 20, "old orphans that wait for the FIN of one service"),
    _count("fin-unanswered", 5, "sockets to one peer whose FIN is not acknowledged"),
    _count("fin-unanswered-service", 20, "such sockets of one local port, all clients together"),
    Limit("fin-unanswered-retries", 2, "retries", "retransmissions before a FIN is unanswered", 1),
    _ratio("orphans-warning", 0.7, "orphans as a share of tcp_max_orphans"),
    _ratio("orphans-critical", 0.9, "orphans as a share of tcp_max_orphans"),
    _count("restart-blocked", 3, "left-over sockets of a service without a listener"),
    _count("syn-unanswered", 5, "retransmitted SYNs to one destination"),
    _count("syn-unanswered-destinations", 50, "destinations that do not answer SYNs"),
)

_BY_NAME: Final = {limit.name: limit for limit in LIMITS}


def nearest(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean X?" for a misspelt word, or nothing where no name is near."""
    close = difflib.get_close_matches(word, list(names), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class Limits:
    """The limits in force: `limits[name]` is a value, `limits.origin(name)` where it comes from."""

    def __init__(
        self,
        values: Mapping[str, float] | None = None,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self._values = {limit.name: limit.default for limit in LIMITS} | dict(values or {})
        self._origins = dict(origins or {})

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, those of all limits there are."""
        return iter(self._values)

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
            checked[name] = _check(name, raw, origin)
        return Limits(self._values | checked, self._origins | dict.fromkeys(checked, origin))

    def in_order(self) -> Limits:
        """Return the limits; raises UsageError where a warning would come after its critical."""
        for name, warning in self._values.items():
            stem, _, word = name.rpartition("-")
            critical = self._values.get(f"{stem}-critical") if word == "warning" else None
            if critical is not None and warning > critical:
                raise UsageError(
                    f"{self.origin(name)}: {name} is {warning:g}, above {stem}-critical "
                    f"({critical:g})",
                    "a warning has to come first",
                )
        return self


def _check(name: str, raw: object, origin: str) -> float:
    limit = _BY_NAME.get(name)
    if limit is None:
        raise UsageError(
            f"{origin}: there is no limit {name!r}{nearest(name, _BY_NAME)}",
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
