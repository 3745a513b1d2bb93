"""Look at the host once: collect, add owners, analyze.  Every command that reads live goes here."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from twdiag import sources
from twdiag.analysis.view import View
from twdiag.errors import SourceError, SourceRefused
from twdiag.model import facts
from twdiag.model.findings import (
    DestinationSubject,
    HostSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
    Severity,
)
from twdiag.model.snapshot import Gap
from twdiag.named import NamedTuple
from twdiag.rules import DEFAULTS, RULES, runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.closes import Close
    from twdiag.model.findings import Finding, Report
    from twdiag.model.idling import Watched
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Snapshot
    from twdiag.rules.rule import Rule


_MOST_ENDS: Final = 4_000
"""So many ends a second take a tenth of a CPU to follow."""
_SORTING: Final = 5.0
"""Seconds to tell what the descriptors of crowded processes are; beside 50 namespaces 0.1."""
_NEARLY_OVER: Final = 0.5


class Question(NamedTuple):
    """What to look at and how."""

    source: str = "auto"
    limits: Limits = DEFAULTS
    rules: tuple[Rule[Any], ...] = RULES
    interval: float = 0.0
    ports: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()
    patience: float = 1.0
    causes: bool = True


def look(question: Question) -> Report:
    """Return what this namespace looks like now; with an interval, compared with a first sample."""
    return look_closely(question).report


def look_closely(question: Question) -> Examined:
    """Return the same with the view that it was made from."""
    report, view = looked(question)
    report = filtered(report, question)
    if not question.causes:
        return Examined(report, view)
    from twdiag.engine.causes import with_causes

    return Examined(with_causes(report, view), view)


def looked(question: Question) -> Examined:
    """Return the whole report, and the view that it was made from."""
    earlier = None
    watched, gaps = None, list[Gap]()
    if question.interval:
        first = sources.collect(question.source)
        earlier = examined(first, question).view.snapshot
        watched, gaps = _watch(question)
    now = sources.collect(question.source, question.patience)
    now = now._replace(watched=watched, gaps=(*now.gaps, *gaps))
    return examined(now, question, earlier)


def _watch(question: Question) -> tuple[Watched | None, list[Gap]]:
    """Watch for the interval how connections idle and end; return that, and what was not seen.

    Where very many end, only a second of it: a look must not take half of a CPU.
    """
    from twdiag.engine.follow import TraceRequest
    from twdiag.engine.watched import Hooks, watch_ends

    began, ends = time.monotonic(), 0
    said: list[str] = []

    def tell(_: Close) -> None:
        nonlocal ends
        ends += 1

    def too_many() -> bool:
        passed = time.monotonic() - began
        return passed >= 1 and ends > _MOST_ENDS * passed

    request = TraceRequest(frozenset(question.ports), seconds=question.interval, source="multicast")
    watched, gaps = None, list[Gap]()
    try:
        if question.source not in ("auto", "netlink"):
            raise SourceRefused("how connections end is announced by netlink", "--source netlink")
        watched = watch_ends(request, Hooks(tell, said.append, too_many)).watched
    except SourceError as error:
        gaps.append(Gap("closes", error.what, error.next_step))
    left = began + question.interval - time.monotonic()
    if left > _NEARLY_OVER and watched is not None:
        said.append(f"so many connections end that only {watched.seconds:.0f} s were watched")
    time.sleep(max(0.0, left))
    return watched, gaps + [Gap("idling", text, "twdiag trace", partial=True) for text in said]


class Examined(NamedTuple):
    """A report, and the view with owners that it was made from."""

    report: Report
    view: View


def examined(
    snapshot: Snapshot,
    question: Question,
    earlier: Snapshot | None = None,
    seconds: float = math.inf,
    begins: Callable[[str], None] = lambda _: None,
) -> Examined:
    """Return the report on a snapshot, compared with an earlier one.

    The search for owners takes no longer than so many seconds.  `begins` is told of each step.
    """
    begins("applying the rules")
    view = View(snapshot._replace(earlier=earlier))
    selection = runner.select(view, question.limits, question.rules)
    begins("looking for socket owners")
    owners, gaps = sources.find_owners(snapshot, selection.inodes, seconds)
    breakdowns, more_gaps = sources.break_down(snapshot, selection.pids, min(seconds / 2, _SORTING))
    named = view.with_owners(owners, (*gaps, *more_gaps), breakdowns)
    begins("judging what was found")
    return Examined(runner.tell(selection, named), named)


def filtered(report: Report, question: Question) -> Report:
    """Return the report with only the findings about the ports and processes asked for.

    Findings about the whole host stay; how many others are left out, and the worst of them, is kept
    among the facts.
    """
    if not question.ports and not question.processes:
        return report
    kept: list[Finding] = []
    hidden: list[Finding] = []
    for finding in report.findings:
        (kept if _asked_for(finding, question) else hidden).append(finding)
    worst = max((finding.severity for finding in hidden), default=Severity.OK)
    numbers = {**report.facts, facts.HIDDEN: len(hidden), facts.HIDDEN_WORST: worst.label}
    return report._replace(findings=tuple(kept), facts=numbers)


def _asked_for(finding: Finding, question: Question) -> bool:
    if isinstance(finding.subject, HostSubject):
        return True
    return (not question.ports or bool(_ports(finding) & set(question.ports))) and (
        not question.processes or bool(_processes(finding) & set(question.processes))
    )


def _ports(finding: Finding) -> set[int]:
    """Return the ports that a finding is about: of its subject, or of its sockets' services."""
    subject, services = finding.subject, finding.evidence.get(facts.SERVICE_PORTS)
    ports = {int(port) for port in services} if isinstance(services, list) else set()
    if isinstance(subject, (ListenerSubject, DestinationSubject, PortSubject)):
        ports.add(subject.port)
    return ports


def _processes(finding: Finding) -> set[str]:
    """Return the names and numbers of the processes that a finding is about, likely ones too."""
    subject, names = finding.subject, set[str]()
    if isinstance(subject, ProcessSubject):
        names |= {subject.name, str(subject.pid)}
    if isinstance(subject, ListenerSubject):
        names |= {word for owner in subject.processes for word in (owner.name, str(owner.pid))}
    for key in (facts.PROCESSES, facts.LIKELY_PROCESSES):
        value = finding.evidence.get(key)
        names |= {str(name) for name in value} if isinstance(value, list) else set()
    return names
