"""Write the answer of a check as the Monitoring Plugins guidelines want it.

One status line below 80 characters, perfdata after `|`, more lines on request.  Text from outside
is made inert: Nagios hands it to shells, mail and web pages.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from twdiag.check.metrics import METRICS
from twdiag.check.verdict import why_unseen
from twdiag.model import facts
from twdiag.model.findings import DestinationSubject
from twdiag.model.ranges import number
from twdiag.model.snapshot import BARRED, IGNORED, LEFT_OUT, NOT_RUN, OUTSIDE
from twdiag.wording import command_in, count, duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from twdiag.check.metrics import Metric
    from twdiag.check.verdict import Answer, Problem
    from twdiag.model.findings import Advice, Finding
    from twdiag.render.folding import Folded

WIDTH: Final = 79
"""The guidelines want the line below 80 characters, for pagers and SMS."""

# `|` begins perfdata; the others act in shells, in printf "%b" or in a web page.  A plugin's reader
# undoes no escapes, so they are replaced instead.  `"` ends a word in most notification commands
# and `;` the command itself; our sentences have both, and stay readable with what replaces them.
_UNSAFE: Final = {**dict.fromkeys("|`$<>&\\", "?"), '"': "'", ";": ","}
_PID: Final = r" \(pid [0-9]+\)"
_LEADING: Final = " a an the of in on to by for from with after that and is "
_MOST_LINES: Final = 50


def render_nagios(answer: Answer, out: TextIO, verbosity: int = 0) -> None:
    """Write the status line with its perfdata, then as many lines as the verbosity asks for."""
    data = perfdata(answer)
    out.write(status_line(answer) + (f" | {data}" if data else "") + "\n")
    for line in long_output(answer, verbosity):
        out.write(line + "\n")


def render_mail(answer: Answer, out: TextIO, verbosity: int) -> None:
    """Write the same for a person whom cron mails: without perfdata."""
    for line in (status_line(answer), *long_output(answer, verbosity)):
        out.write(line + "\n")


def status_line(answer: Answer) -> str:
    """Return the line that leads to the worst problem, or says that there is none."""
    head = f"TWDIAG {answer.status.name} - "
    if not answer.problems:
        return head + _all_well(answer, WIDTH - len(head))
    told = _told(answer.problems)
    others = len(told) - 1
    more = f" (+{others:,} more)" if others else ""
    problem, group = told[0]
    return head + headline(problem, WIDTH - len(head) - len(more), group) + more


def _told(problems: Sequence[Problem]) -> list[tuple[Problem, Folded | None]]:
    """Return the problems as a person counts them: findings that are alike are one."""
    groups = {id(g.worst): g for g in _groups([p.finding for p in problems if p.finding])}
    return [
        (problem, groups.get(id(problem.finding)))
        for problem in problems
        if problem.finding is None or id(problem.finding) in groups
    ]


def _groups(findings: Sequence[Finding]) -> list[Folded]:
    """Return findings as they are told."""
    if not findings:
        return []  # most checks find nothing, and start faster without
    from twdiag.render.folding import folded

    return folded(findings)


def headline(problem: Problem, width: int, group: Folded | None = None) -> str:
    """Return a problem in so many characters: whole clauses if possible, else cut at a word."""
    texts = [inert(text) for text in _ways_to_say(problem, group)]
    whole = (text for text in texts if len(text) <= width)
    clauses = (clause for text in texts if (clause := _clauses(text, width)))
    return next(whole, None) or next(clauses, None) or _cut(texts[0], width)


def _ways_to_say(problem: Problem, group: Folded | None) -> Iterator[str]:
    """Yield ways to say what a problem is, the best first."""
    finding = problem.finding
    if group is not None and group.findings > 1:
        # How many they are is worth more than which.
        if finding is not None and group.is_many:
            yield from (f"{group.who}, the worst {text}" for text in _ports_used(finding))
        yield group.located(numbers=False)
        yield group.short
        return
    if finding is not None:
        yield from _ports_used(finding)
    yield problem.text
    if finding is not None:
        # A whole sentence is worth more than the number of the process.
        yield re.sub(_PID, "", problem.text)


def _ports_used(finding: Finding) -> Iterator[str]:
    """Yield "10.0.0.5:5432 27,104 of 28,232 ports used, full in 9 s" where that is the finding."""
    subject, evidence = finding.subject, finding.evidence
    used, ports = evidence.get(facts.USED), evidence.get(facts.PORTS)
    if isinstance(subject, DestinationSubject) and isinstance(used, int) and isinstance(ports, int):
        where = endpoint(subject.address, subject.port)
        left = evidence.get(facts.SECONDS_LEFT)
        full = f", full in {duration(left)}" if isinstance(left, float) and left else ""
        if used >= ports and not evidence.get(facts.REUSABLE):
            full = ", connect() fails"
        place = finding.located.removesuffix(finding.summary)
        yield f"{place}{where} {used:,} of {ports:,} ports used{full}"
        yield f"{place}{used:,} of {ports:,} ports used{full}: {where}"


def _clauses(text: str, width: int) -> str:
    """Return as many whole clauses of a text as fit, nothing where that loses most of it."""
    ends = (text.rfind(mark, 0, width + 1) for mark in ("; ", ", ", ": ", " ("))
    end = max((at for at in ends if _closed(text[:at])), default=-1)
    return text[:end] if end >= width // 2 else ""


def _cut(text: str, width: int) -> str:
    """Return a text cut at a word."""
    cut = text[: width - 3]
    word = cut.rfind(" ")
    cut = cut[: word if word >= width // 2 else None].rstrip(" ,;:")
    words = cut.split(" ")
    # No line ends with a word that leads to what is cut off.
    while len(words) > 1 and f" {words[-1]} " in _LEADING:
        words.pop()
    return " ".join(words) + "..."


def _closed(text: str) -> bool:
    return text.count("(") == text.count(")")


def inert(text: str) -> str:
    """Return text as one line without anything that could act on its reader."""
    return "".join(_UNSAFE.get(c, c) if c.isprintable() else "?" for c in text)


def _all_well(answer: Answer, width: int) -> str:
    """Return the numbers of a host without a problem, the least important left out if too long."""
    values, parts = answer.values, list[tuple[int, str]]()
    for priority, name, words in (
        (0, "time_wait", "TIME_WAIT"),
        (0, "close_wait", "CLOSE_WAIT"),
        (3, "ports_used_ratio", "% of ports used"),
    ):
        value = values.get(name)
        if value is not None:
            parts.append((priority, f"{int(value):,} {words}"))
    gaps = answer.report.gaps if answer.report else ()
    # An OK of some rules must not read like one of all.
    parts[:0] = [(-1, inert(gap.short)) for gap in gaps if gap.what == NOT_RUN]
    places = len(answer.report.namespaces) if answer.report else 0
    barred = any(gap.what == BARRED for gap in gaps)
    if places or barred:
        parts.append((1, count(places or 1, "namespace")))
    # Nor one of some namespaces.
    parts += [(-1, inert(gap.short)) for gap in gaps if gap.what == BARRED]
    parts += [(2, inert(gap.short)) for gap in gaps if gap.what == OUTSIDE and gap.short]
    skipped = len(answer.report.skipped) if answer.report else 0
    if skipped:
        parts.append((1, f"{count(skipped, 'rule')} could not look"))
    if answer.notices:
        parts.append((2, count(len(_groups(answer.notices)), "notice")))
    parts += [(4, inert(gap.short)) for gap in gaps if gap.what == IGNORED]
    while len(", ".join(text for _, text in parts)) > width:
        parts.remove(max(parts))
    return ", ".join(text for _, text in parts) or "nothing wrong"


def long_output(answer: Answer, verbosity: int) -> Iterator[str]:
    """Yield the lines after the first.

    Without verbosity only what the first line had to cut of a refusal.  1: the findings; 2: with
    what their processes wait for, with advice and with what was not seen.
    """
    first = answer.problems[0] if answer.problems else None
    if first is not None and answer.report is None:
        if len(first.text) > len(headline(first, WIDTH - len("TWDIAG UNKNOWN - "))):
            yield inert(first.text)
        if first.next_step:
            yield inert(first.next_step)
    if verbosity < 1:
        return
    lines = [*_problem_lines(answer, verbosity), *_notice_lines(answer, verbosity)]
    yield from lines[: _MOST_LINES * verbosity]
    if len(lines) > _MOST_LINES * verbosity:
        yield f"... and {len(lines) - _MOST_LINES * verbosity:,} lines more: twdiag diagnose"
    yield from (f"NOTE: {inert(note)}" for note in answer.notes)
    if answer.report is not None:
        for gap in answer.report.gaps:
            if gap.what in LEFT_OUT:
                yield inert(f"NOT RUN: {_with_way(gap.why, gap.how, verbosity)}")
            if gap.what in (BARRED, OUTSIDE):
                yield inert(f"NOT SEEN: {_with_way(gap.why, gap.how, verbosity)}")
        yield from _unmeasured(answer) if verbosity > 1 else ()
        for skip in answer.report.skipped:
            yield inert(f"NOT JUDGED: {skip.rule}: {_with_way(skip.reason, skip.how, verbosity)}")


def _unmeasured(answer: Answer) -> Iterator[str]:
    """Yield which numbers are U, and why, once for all with the same reason."""
    reasons: dict[str, list[str]] = {}
    for metric in METRICS:
        if answer.values.get(metric.name) is None and _belongs(metric, answer):
            reasons.setdefault(why_unseen(metric)[0], []).append(metric.name)
    for why, names in reasons.items():
        yield inert(f"NOT MEASURED: {', '.join(names)}: {why}")


def _with_way(why: str, how: str, verbosity: int) -> str:
    return f"{why} ({how})" if verbosity > 1 and how else why


def _problem_lines(answer: Answer, verbosity: int) -> Iterator[str]:
    if answer.report is None:
        return
    for problem, group in _told(answer.problems):
        rule = f"{problem.finding.rule}: " if problem.finding else ""
        text = problem.text if group is None else group.located()
        yield inert(f"{problem.status.name}: {rule}{text}")
        if group is not None and verbosity > 1:
            yield from _advice(group)
        elif problem.next_step and verbosity > 1:
            yield f"  do: {inert(problem.next_step)}"


def _notice_lines(answer: Answer, verbosity: int) -> Iterator[str]:
    for group in _groups(answer.notices):
        finding = group.worst
        yield inert(f"{finding.severity.name}: {finding.rule}: {group.located()}")
        if verbosity > 1:
            yield from _advice(group)


def _advice(group: Folded) -> Iterator[str]:
    finding = group.worst
    if group.waits:
        yield inert(f"  waits: {group.waits}")
    # A command that inert() would break is none to paste.
    now = next((step.run for step in finding.steps if step.run == inert(step.run)), "")
    if now:
        yield f"  now: {now}"
    for end in finding.other_ends:
        yield f"  peer: {inert(end.text)}"
    for advice in finding.advice:
        yield inert(f"  do: {_advised(advice)}")
    yield f"  more: twdiag explain {finding.rule}"


def _advised(advice: Advice) -> str:
    """Return what to do and how, without a command that nobody could paste any more."""
    command, how = command_in(advice.how), advice.how
    if inert(command) != _with_one_quote(command):
        how = how.removesuffix(command).rstrip(" :")
    if not how:
        return advice.do
    mark = " -" if how != command and ": " in advice.do + how else ":"
    return f"{advice.do}{mark} {how}"


def _with_one_quote(command: str) -> str:
    """Return a command with the quotes that inert() leaves, where that makes no difference."""
    return command if "'" in command else command.replace('"', "'")


def perfdata(answer: Answer) -> str:
    """Return 'label'=value;warn;crit;min;max of every metric; U for what was not seen.

    The series are always the same for the same options on the same host: what compares two runs is
    there only with --state, and what few hosts have only where it was seen.
    """
    if answer.report is None:
        return ""
    return " ".join(_series(metric, answer) for metric in METRICS if _belongs(metric, answer))


def _belongs(metric: Metric, answer: Answer) -> bool:
    if metric.optional and answer.values.get(metric.goes_with or metric.name) is None:
        return False
    return answer.compared or not metric.compares


def _series(metric: Metric, answer: Answer) -> str:
    value = answer.values.get(metric.name)
    if value is None:
        return f"{metric.name}=U"
    warning, critical = (r.get(metric.name, "") for r in answer.shown)
    most = "" if metric.most is None else number(metric.most)
    text = number(round(value, 2))
    return f"{metric.name}={text}{metric.unit};{warning};{critical};0;{most}".rstrip(";")
