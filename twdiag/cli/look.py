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
    from collections.abc import Iterable, Sequence

    from twdiag.model import Finding, Report, Rule, Snapshot, Subject


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
    return complete(sources.collect(question.source), question, earlier)


def complete(
    snapshot: Snapshot,
    question: Question,
    earlier: Snapshot | None = None,
    also: Iterable[int] = (),
) -> Snapshot:
    """Return a snapshot with its earlier one and with the owners that the rules would name.

    `also` are the inodes whose owners are needed for something else.
    """
    if earlier is not None:
        snapshot = dataclasses.replace(snapshot, earlier=earlier)
    wanted = rules.inodes_wanted(snapshot, question.limits, question.rules)
    return sources.add_owners(snapshot, wanted.union(also))


def filtered(report: Report, question: Question) -> Report:
    """Return the report with only the findings about the ports and processes asked for."""
    if not question.ports and not question.processes:
        return report
    findings = tuple(
        finding
        for finding in report.findings
        if (not question.ports or _ports(finding) & set(question.ports))
        and (not question.processes or _concerns(finding.subject, question.processes))
    )
    return dataclasses.replace(report, findings=findings)


def _ports(finding: Finding) -> set[int]:
    """Return the ports that a finding is about: of its subject, or of its sockets' services."""
    subject, services = finding.subject, finding.evidence.get("service_ports")
    ports = {int(port) for port in services} if isinstance(services, list) else set()
    if isinstance(subject, (ListenerSubject, DestinationSubject, PortSubject)):
        ports.add(subject.port)
    return ports


def _concerns(subject: Subject, processes: Sequence[str]) -> bool:
    """Return whether a subject is one of these processes, by name or by number."""
    if isinstance(subject, ProcessSubject):
        return subject.name in processes or str(subject.pid) in processes
    if isinstance(subject, ListenerSubject):
        return any(o.name in processes or str(o.pid) in processes for o in subject.processes)
    assert isinstance(subject, (DestinationSubject, PortSubject, AddressSubject, HostSubject))
    return False
