"""Ranges for metrics: as words of flags and files, and as the limits of the rules amount to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.check import metrics
from twdiag.errors import UsageError
from twdiag.model.ranges import Range, parse_range

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.check.metrics import Metric
    from twdiag.model.limits import Limits


def parse_threshold(name: str, text: str, origin: str) -> tuple[Metric, Range]:
    """Return a metric and the range of its good (or, after @, bad) values.

    Percentages may carry their sign.  One up to 1 must: 0.8 for 80 % is too likely a mistake.
    """
    metric = metrics.find(name, origin)
    signed = metric.unit == "%" and "%" in text
    try:
        found = parse_range(text.replace("%", "") if signed else text)
    except UsageError as error:
        raise UsageError(f"{origin}: {metric.name}: {error.what}", error.next_step) from error
    for bound in (found.start, found.end):
        if metric.unit == "%" and not signed and 0 < abs(bound) <= 1:
            raise UsageError(
                f"{origin}: {metric.name} is in percent, and {text!r} may mean 1 % or 100 %",
                f"write {100 * bound:g} or {bound:g}%",
            )
    return metric, found


def parse_threshold_flags(flags: Iterable[str], option: str) -> dict[str, Range]:
    """Return {"metric": range} of METRIC=RANGE words; UsageError where a word is not one."""
    ranges: dict[str, Range] = {}
    for flag in flags:
        name, equals, text = flag.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise UsageError(
                f"{option} needs METRIC=RANGE, not {flag!r}",
                f"for example {option} time_wait=20000",
            )
        metric, found = parse_threshold(name, text, option)
        ranges[metric.name] = found
    return ranges


def default_ranges(limits: Limits) -> tuple[dict[str, Range], dict[str, Range]]:
    """Return the (warning, critical) ranges that the limits of the rules amount to."""
    warning, critical = {}, {}
    for metric in metrics.METRICS:
        if metric.limits is not None:
            warning[metric.name] = Range(0, round(100 * limits[metric.limits[0]], 6))
            critical[metric.name] = Range(0, round(100 * limits[metric.limits[1]], 6))
    return warning, critical
