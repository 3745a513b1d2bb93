"""Look at the host once: collect, add owners, analyze.  Every command that reads live goes here."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twdiag import rules, sources
from twdiag.limits import Limits
from twdiag.model import (
    AddressSubject,
    DestinationSubject,
    HostSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twdiag.model import Report, Rule, Snapshot, Subject


@dataclass(frozen=True)
class Question:
    """What to look at and how."""

    source: str = "auto"
    limits: Limits = field(default_factory=Limits)
    rules: tuple[Rule, ...] = rules.RULES
    interval: float = 0.0
    ports: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()


def look(question: Question) -> Report:
    """Return what this namespace looks like now; with an interval, compared with a first sample."""
    snapshot = sample(question)
    if question.interval:
        time.sleep(question.interval)
        snapshot = sample(question, earlier=snapshot)
    return filtered(rules.analyze(snapshot, question.limits, question.rules), question)


def sample(question: Question, earlier: Snapshot | None = None) -> Snapshot:
    """Return one snapshot with the owners that the rules would name."""
    snapshot = sources.collect(question.source)
    if earlier is not None:
        snapshot = dataclasses.replace(snapshot, earlier=earlier)
    wanted = rules.inodes_wanted(snapshot, question.limits, question.rules)
    return sources.add_owners(snapshot, wanted)


def filtered(report: Report, question: Question) -> Report:
    """Return the report with only the findings about the ports and processes asked for."""
    if not question.ports and not question.processes:
        return report
    findings = tuple(
        finding
        for finding in report.findings
        if (not question.ports or _ports(finding.subject) & set(question.ports))
        and (not question.processes or _concerns(finding.subject, question.processes))
    )
    return dataclasses.replace(report, findings=findings)


def _ports(subject: Subject) -> set[int]:
    if isinstance(subject, (ListenerSubject, DestinationSubject, PortSubject)):
        return {subject.port}
    return set()


def _concerns(subject: Subject, processes: Sequence[str]) -> bool:
    """Return whether a subject is one of these processes, by name or by number."""
    if isinstance(subject, ProcessSubject):
        return subject.name in processes or str(subject.pid) in processes
    if isinstance(subject, ListenerSubject):
        return any(o.name in processes or str(o.pid) in processes for o in subject.processes)
    assert isinstance(subject, (DestinationSubject, PortSubject, AddressSubject, HostSubject))
    return False
