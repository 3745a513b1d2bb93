"""What `twdiag check` does: look, measure, compare with the last run, judge."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from twdiag.check.verdict import Answer, Problem, Ranges, Status, judge, unknown
from twdiag.errors import TwdiagError, UsageError, was_interrupted
from twdiag.history.deadline import TimeIsUp
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.engine.look import Examined, Question
    from twdiag.history.deadline import Deadline
    from twdiag.history.state_file import StateFile
    from twdiag.model.findings import Report
    from twdiag.model.snapshot import Snapshot
    from twdiag.rules.rule import Rule
    from twdiag.settings.config import Settings

_MOST_DESTINATIONS: Final = 5
"""Busiest destinations that become series of their own: as many as a person looks at."""


_EXPLAINING: Final = ("text", "checkmk")
"""Formats that people read: with -vv, they tell what the processes of a finding wait for."""


class CheckRequest(NamedTuple):
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
    all_netns: bool = False


class Plan(NamedTuple):
    """A request that made sense, with all settings in force."""

    request: CheckRequest
    settings: Settings
    ranges: Ranges
    rules: tuple[Rule[Any], ...]


class CheckOutcome(NamedTuple):
    """The answer, the status that was last told (None without --state or a last run), and whether
    --notify-on change has to tell this one."""

    answer: Answer
    last_status: str | None = None
    speaks: bool = True


def plan(request: CheckRequest) -> Plan:
    """Return what to do for a request; raises UsageError where it makes no sense."""
    if request.notify_on == "change" and request.state is None:
        raise UsageError(
            "--notify-on change needs --state FILE to know the last status",
            "add --state FILE, a file that twdiag may make",
        )
    if request.again_after is not None and request.notify_on != "change":
        raise UsageError("--again-after needs --notify-on change", "add --notify-on change")
    _refuse_silence(request)
    from twdiag.check.thresholds import parse_threshold_flags
    from twdiag.engine.choice import chosen_rules
    from twdiag.settings import config

    settings = config.load(request.config, request.limits)
    warning = {**settings.warning, **parse_threshold_flags(request.warning, "--warning")}
    critical = {**settings.critical, **parse_threshold_flags(request.critical, "--critical")}
    chosen = chosen_rules(request.select, request.ignore, settings.ignore)
    return Plan(request, settings, Ranges(warning, critical), chosen)


def _refuse_silence(request: CheckRequest) -> None:
    """Raise UsageError where something is to be written at every run, and yet not at each."""
    if request.notify_on == "always":
        return
    option = "--quiet" if request.notify_on == "problem" else "--notify-on change"
    if request.format != "text":  # an empty answer would say that there is nothing to measure
        raise UsageError(
            f"{option} goes with the format text, not {request.format}",
            f"leave out {option}: programs read every answer",
        )
    if request.output is not None:
        raise UsageError(
            f"{option} and --output exclude each other",
            f"leave out {option}: the file is written at every run",
        )


def examine(request: CheckRequest, deadline: Deadline) -> CheckOutcome:
    """Return the answer to a request; whatever keeps it from looking is an UNKNOWN answer."""
    try:
        deadline.doing = "reading the settings"
        planned = plan(request)
        if request.state is None:
            answer, _ = _look(planned, deadline, None)
            return CheckOutcome(answer._replace(notes=planned.settings.notes))
        deadline.doing = "waiting for the state file"
        from twdiag.history.state_file import StateFile

        with StateFile(request.state) as memory:
            return _remembering(planned, deadline, memory)
    except (Exception, TimeIsUp) as error:
        return CheckOutcome(_refused(error, request, deadline))


def _remembering(planned: Plan, deadline: Deadline, memory: StateFile) -> CheckOutcome:
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
    notes = [*planned.settings.notes, *memory.notes]
    if request.notify_on == "change" and last not in (None, status):
        notes.append(f"before, it was {last}")
    return CheckOutcome(answer._replace(notes=tuple(notes)), last, speaks)


def has_to_speak(request: CheckRequest, outcome: CheckOutcome) -> bool:
    """Return whether an answer is wanted: always, on a problem or on a change."""
    if request.notify_on == "change":
        return outcome.speaks
    return request.notify_on == "always" or outcome.answer.status.name != "OK"


def write_output(path: str, text: str) -> Answer | None:
    """Replace the file of --output; return the answer that tells why it could not be done."""
    from twdiag.history import files

    try:
        # Whoever collects it runs as another user.
        files.replace(path, text.encode("utf-8", "backslashreplace"), 0o644, "the output file")
    except UsageError as error:
        return unknown(error.what, error.next_step)
    except OSError as error:
        return unknown(f"the output file {path} cannot be written: {error.strerror}")
    return None


def _look(planned: Plan, deadline: Deadline, memory: StateFile | None) -> tuple[Answer, Snapshot]:
    from twdiag import sources
    from twdiag.check import metrics
    from twdiag.engine.choice import left_out
    from twdiag.engine.look import Examined, Question, examined, filtered
    from twdiag.model.findings import Severity

    request, limits = planned.request, planned.settings.limits
    question = Question(
        request.source, limits, planned.rules, 0.0, request.ports, request.processes
    )
    deadline.doing = "reading the sockets"
    snapshot = sources.collect(request.source)
    earlier = None if memory is None else memory.earlier(snapshot)
    # A verdict without all names is worth more than none: the search gets half of the time left.
    report, view = examined(snapshot, question, earlier, deadline.left / 2, deadline.begins)
    report = filtered(report, question)
    if request.verbosity > 1 and request.format in _EXPLAINING:
        from twdiag.engine.causes import with_causes
        from twdiag.engine.waits import SECONDS

        deadline.doing = "looking at what processes wait for"
        report = with_causes(report, view, min(SECONDS, deadline.left / 4))
    unasked = left_out(planned.rules, request.select, request.ignore, planned.settings.ignore)
    report = report._replace(gaps=(*report.gaps, *unasked))
    if request.all_netns:
        deadline.doing = "looking into the other namespaces"
        report = _widened(Examined(report, view), question, request.timeout, deadline)
    values = metrics.measure(view)
    warn_on = Severity.NOTICE if request.warn_on == "notice" else Severity.WARNING
    answer = judge(report, values, planned.ranges, warn_on, request.select)
    for problem in _left_out(report, request.timeout) if request.all_netns else ():
        answer = answer.with_problem(problem)
    return (
        answer._replace(
            shown=_shown(planned),
            busiest=metrics.busiest(view, _MOST_DESTINATIONS),
            compared=memory is not None,
        ),
        view.snapshot,
    )


def _widened(own: Examined, question: Question, timeout: float, deadline: Deadline) -> Report:
    """Return the report on this namespace with the findings of all others, in half of the time."""
    from twdiag.engine.host import widened

    # To name the owners takes up to half as much again.
    seconds = min(timeout / 2, 0.6 * deadline.left)
    return widened(own, question._replace(causes=False), seconds)


def _left_out(report: Report, timeout: float) -> Iterator[Problem]:
    """Yield a problem for namespaces that could have been looked at and were not.

    Those that this process may not see are told, and the others judged: a check in a container
    would be UNKNOWN for ever.
    """
    from twdiag.model.namespaces import NO_TIME, UNSEEN

    for gap in report.gaps:
        if gap.what == UNSEEN:
            more = f"give it more time: --timeout {2 * timeout:g}"
            how = more if gap.why.endswith(NO_TIME) else gap.how
            yield Problem(Status.UNKNOWN, gap.why, None, how)


def _shown(planned: Plan) -> Ranges:
    """Return the ranges for the perfdata: those asked for, else what the limits amount to."""
    from twdiag.check.thresholds import default_ranges

    warning, critical = default_ranges(planned.settings.limits)
    return Ranges({**warning, **planned.ranges.warning}, {**critical, **planned.ranges.critical})


def _refused(error: BaseException, request: CheckRequest, deadline: Deadline) -> Answer:
    """Return the answer of a check that an error or the time limit ended."""
    source = request.source
    if isinstance(error, TimeIsUp):
        what = f"no answer within {request.timeout:g} s, while {deadline.doing}"
        return unknown(what, "see what hangs, or give more time: --timeout", source)
    if isinstance(error, TwdiagError):
        return unknown(error.what, error.next_step, source)
    if os.environ.get("TWDIAG_DEBUG") or was_interrupted(error):
        raise error
    what = f"internal error: {type(error).__name__}: {error}"
    return unknown(what, "please report it with the output of TWDIAG_DEBUG=1 twdiag ...", source)
