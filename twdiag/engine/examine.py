"""What `twdiag check` does: look, measure, compare with the last run, judge."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.check.verdict import Answer, Problem, Ranges, Status, judge, unknown
from twdiag.errors import TwdiagError
from twdiag.history.deadline import TimeIsUp

if TYPE_CHECKING:
    from twdiag.analysis.view import View
    from twdiag.history.deadline import Deadline
    from twdiag.history.state_file import StateFile
    from twdiag.model.snapshot import Snapshot
    from twdiag.rules.rule import Rule
    from twdiag.settings.config import Settings

_MOST_DESTINATIONS: Final = 5
"""Busiest destinations that become series of their own: as many as a person looks at."""


class Request(NamedTuple):
    """What the user asked `check` for; the flags as they were written."""

    source: str = "auto"
    format: str = "text"
    output: str | None = None
    verbosity: int = 0
    timeout: float = 10.0
    config: str | None = None
    state: str | None = None
    notify_on: str = "always"
    warn_on: str = "warning"
    exit_zero: bool = False
    warning: tuple[str, ...] = ()
    critical: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()
    again_after: str | None = None


class Plan(NamedTuple):
    """A request that made sense, with all settings in force."""

    request: Request
    settings: Settings
    ranges: Ranges
    rules: tuple[Rule[Any], ...]


class Outcome(NamedTuple):
    """The answer, the status that was last told (None without --state or a last run), and whether
    --notify-on change has to tell this one."""

    answer: Answer
    last_status: str | None = None
    speaks: bool = True


def plan(request: Request) -> Plan:
    """Return what to do for a request; raises UsageError where it makes no sense."""
    from twdiag import rules
    from twdiag.check.thresholds import parse_threshold_flags
    from twdiag.settings import config

    settings = config.load(request.config, request.limits)
    warning = {**settings.warning, **parse_threshold_flags(request.warning, "--warning")}
    critical = {**settings.critical, **parse_threshold_flags(request.critical, "--critical")}
    asked = set(request.select)
    ignore = (*request.ignore, *(name for name in settings.ignore if name not in asked))
    chosen = rules.choose(request.select, ignore)
    return Plan(request, settings, Ranges(warning, critical), chosen)


def examine(request: Request, deadline: Deadline) -> Outcome:
    """Return the answer to a request; whatever keeps it from looking is an UNKNOWN answer."""
    try:
        deadline.doing = "reading the settings"
        planned = plan(request)
        if request.state is None:
            return Outcome(_look(planned, deadline, None)[0])
        deadline.doing = "waiting for the state file"
        from twdiag.history.state_file import StateFile

        with StateFile(request.state) as memory:
            return _remembering(planned, deadline, memory)
    except (Exception, TimeIsUp) as error:
        return Outcome(_refused(error, request, deadline))


def _remembering(planned: Plan, deadline: Deadline, memory: StateFile) -> Outcome:
    """Look, and remember what was seen; without a sight, remember the status alone."""
    from twdiag.history import notify

    request, told = planned.request, memory.told
    after = request.again_after
    again = None if after is None else notify.parse_duration(after, "--again-after")
    snapshot: Snapshot | None = None
    try:
        answer, snapshot = _look(planned, deadline, memory)
    except (Exception, TimeIsUp) as error:
        answer = _refused(error, planned.request, deadline)
    status, now = answer.status.name, memory.wall
    speaks = notify.has_to_speak(told, memory.last_status, status, now, again)
    if speaks or request.notify_on != "change" or told is None:
        told_now = notify.Told(status, now)
    else:
        told_now = told
    try:
        deadline.doing = "writing the state file"
        if snapshot is not None:
            memory.remember(snapshot, status, told_now)
        else:
            memory.remember_status(status, told_now)
    except (OSError, TimeIsUp) as error:
        why = error.strerror if isinstance(error, OSError) else "it takes too long"
        text = f"the state file {memory.path} cannot be written: {why}"
        step = "without it, growth is not judged"
        answer = answer.with_problem(Problem(Status.UNKNOWN, text, None, step))
        speaks = True
    last = None if told is None else told.status
    return Outcome(answer._replace(notes=tuple(memory.notes)), last, speaks)


def _look(planned: Plan, deadline: Deadline, memory: StateFile | None) -> tuple[Answer, Snapshot]:
    from twdiag import sources
    from twdiag.check import metrics
    from twdiag.engine.look import Question, examined, filtered
    from twdiag.model.findings import Severity

    request, limits = planned.request, planned.settings.limits
    question = Question(
        request.source, limits, planned.rules, 0.0, request.ports, request.processes
    )
    deadline.doing = "reading the sockets"
    snapshot = sources.collect(request.source)
    earlier = None if memory is None else memory.earlier(snapshot)
    deadline.doing = "looking for the owners of sockets"
    # A verdict without all names is worth more than none: the search gets half of the time left.
    report, view = examined(
        snapshot, question, earlier, partial(_owners_needed, planned.ranges), deadline.left / 2
    )
    deadline.doing = "judging"
    report = filtered(report, question)
    values = metrics.measure(view)
    warn_on = Severity.NOTICE if request.warn_on == "notice" else Severity.WARNING
    answer = judge(report, values, planned.ranges, warn_on, request.select)
    return (
        answer._replace(
            shown=_shown(planned),
            busiest=metrics.busiest(view, _MOST_DESTINATIONS),
            compared=memory is not None,
        ),
        view.snapshot,
    )


def _owners_needed(ranges: Ranges, view: View) -> list[int]:
    """Return the inodes whose owners a range asks about."""
    from twdiag.check import metrics

    asked = {*ranges.warning, *ranges.critical}
    if not any(metric.owners and metric.name in asked for metric in metrics.METRICS):
        return []
    return metrics.held_inodes(view)


def _shown(planned: Plan) -> Ranges:
    """Return the ranges for the perfdata: those asked for, else what the limits amount to."""
    from twdiag.check.thresholds import default_ranges

    warning, critical = default_ranges(planned.settings.limits)
    return Ranges({**warning, **planned.ranges.warning}, {**critical, **planned.ranges.critical})


def _refused(error: BaseException, request: Request, deadline: Deadline) -> Answer:
    """Return the answer of a check that an error or the time limit ended."""
    source = request.source
    if isinstance(error, TimeIsUp):
        what = f"no answer within {request.timeout:g} s, while {deadline.doing}"
        return unknown(what, "see what hangs, or give more time: --timeout", source)
    if isinstance(error, TwdiagError):
        return unknown(error.what, error.next_step, source)
    if os.environ.get("TWDIAG_DEBUG"):
        raise error
    what = f"internal error: {type(error).__name__}: {error}"
    return unknown(what, "please report it with the output of TWDIAG_DEBUG=1 twdiag ...", source)
