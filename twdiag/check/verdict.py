"""What a check answers: a report and its numbers judged OK, WARNING, CRITICAL or UNKNOWN."""

from __future__ import annotations

import enum
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from twdiag.check.metrics import METRICS
from twdiag.model.findings import Severity
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from twdiag.check.metrics import Metric, PortShare, Values
    from twdiag.model.findings import Finding, Report
    from twdiag.model.ranges import Range


class Status(enum.IntEnum):
    """The four states of a plugin; the number is its exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def weight(self) -> int:
        """How bad it is: something measured as bad outweighs something not seen."""
        return (0, 2, 3, 1)[self]


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Ranges(NamedTuple):
    """The ranges asked for, by metric."""

    warning: Mapping[str, Range] = _NOTHING
    critical: Mapping[str, Range] = _NOTHING


class Problem(NamedTuple):
    """One reason for a status: a finding, or a sentence about a number or about the check itself.

    `next_step` says what would help where the sentence alone does not.
    """

    status: Status
    text: str
    finding: Finding | None = None
    next_step: str = ""


class Answer(NamedTuple):
    """All that a check has to say.

    `problems` are the reasons for the status, the worst first; `notices` the findings that do not
    count.  `report` is None where nothing could be seen.  `shown` has the ranges that belong into
    the perfdata: those asked for, else what the limits amount to.  `busiest` are the destinations
    with the most ports in use.  `compared` tells that runs are compared (--state).
    """

    problems: tuple[Problem, ...]
    notices: tuple[Finding, ...] = ()
    report: Report | None = None
    values: Values = _NOTHING
    shown: Ranges = Ranges()
    busiest: tuple[PortShare, ...] = ()
    notes: tuple[str, ...] = ()
    compared: bool = False
    source: str = "auto"

    @property
    def status(self) -> Status:
        """The worst status of any problem."""
        return max((p.status for p in self.problems), key=lambda s: s.weight, default=Status.OK)

    def with_problem(self, problem: Problem) -> Answer:
        """Return the answer with one problem more."""
        return self._replace(problems=_sorted((*self.problems, problem)))


def unknown(what: str, next_step: str = "", source: str = "auto") -> Answer:
    """Return the answer of a check that could not look."""
    return Answer((Problem(Status.UNKNOWN, what, None, next_step),), source=source)


def judge(
    report: Report,
    values: Values,
    ranges: Ranges,
    warn_on: Severity = Severity.WARNING,
    asked: Collection[str] = (),
) -> Answer:
    """Return the answer to a report and its numbers.

    `asked` names the rules that were asked for by name: one of them that could not look is a
    problem, while a rule that runs by default and cannot look is only told.
    """
    problems = [
        Problem(_status_of(finding.severity), finding.located, finding)
        for finding in report.findings
        if finding.severity >= warn_on
    ]
    notices = tuple(f for f in report.findings if f.severity < warn_on)
    problems += _breaches(values, ranges)
    problems += [
        Problem(Status.UNKNOWN, f"{skip.rule} could not look: {skip.reason}", None, skip.how)
        for skip in report.skipped
        if skip.rule in asked
    ]
    return Answer(_sorted(problems), notices, report, values, source=report.source)


def _status_of(severity: Severity) -> Status:
    return Status.CRITICAL if severity is Severity.CRITICAL else Status.WARNING


def _sorted(problems: Collection[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda p: -p.status.weight))


def _breaches(values: Values, ranges: Ranges) -> Iterator[Problem]:
    for metric in METRICS:
        critical, warning = ranges.critical.get(metric.name), ranges.warning.get(metric.name)
        value = values.get(metric.name)
        if critical is None and warning is None:
            continue
        if value is None:
            yield _unseen(metric)
        elif critical is not None and critical.alerts(value):
            yield _breach(Status.CRITICAL, metric, value, critical)
        elif warning is not None and warning.alerts(value):
            yield _breach(Status.WARNING, metric, value, warning)


def _breach(status: Status, metric: Metric, value: float, allowed: Range) -> Problem:
    return Problem(
        status, f"{metric.name} is {_amount(metric, value)}, {_against(metric, value, allowed)}"
    )


def _against(metric: Metric, value: float, allowed: Range) -> str:
    """Return how a bad value stands to its range, "above the limit of 80 %"."""
    low, high = _amount(metric, allowed.start), _amount(metric, allowed.end)
    if not allowed.inside:
        return f"above the limit of {high}" if value > allowed.end else f"below the limit of {low}"
    if allowed.end == math.inf:
        return f"not below the limit of {low}"
    if allowed.start == -math.inf:
        return f"not above the limit of {high}"
    return f"between the limits of {low} and {high}"


def _amount(metric: Metric, value: float) -> str:
    """Return a value with its unit, as people write it."""
    if math.isinf(value):
        return str(value)
    unit = {"%": " %", "s": " s"}.get(metric.unit, "")
    whole = value == int(value) or value >= 1000
    return (f"{value:,.0f}" if whole else f"{value:.6g}") + unit


def _unseen(metric: Metric) -> Problem:
    why, step = why_unseen(metric)
    return Problem(Status.UNKNOWN, f"{metric.name} was not seen: {why}", None, step)


def why_unseen(metric: Metric) -> tuple[str, str]:
    """Return why a number is missing, and what would help."""
    if metric.compares:
        why = "it compares two runs, and there was none before"
        return why, "run again; without --state FILE no run is remembered"
    if metric.shown_by:
        return f"only {metric.shown_by} shows it", f"run twdiag in {metric.shown_by}"
    return "this source or these rights do not show it", "run `twdiag diagnose` to see why"
