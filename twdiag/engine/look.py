"""Look at the host once: collect, add owners, analyze.  Every command that reads live goes here."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twdiag import rules, sources
from twdiag.model import (
    DestinationSubject,
    HostSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
    Severity,
)
from twdiag.model.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model import Finding, Report, Rule, Snapshot


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
    seconds: float = math.inf,
) -> Snapshot:
    """Return a snapshot with its earlier one and with the owners that the rules would name.

    `also` are the inodes whose owners are needed for something else; the search for owners takes no
    longer than so many seconds.
    """
    if earlier is not None:
        snapshot = dataclasses.replace(snapshot, earlier=earlier)
    wanted = rules.inodes_wanted(snapshot, question.limits, question.rules)
    return sources.add_owners(snapshot, wanted.union(also), seconds)


def filtered(report: Report, question: Question) -> Report:
    """Return the report with only the findings about the ports and processes asked for.

    Findings about the whole host stay; how many others are left out, and the worst of them, is kept
    among the facts.
    """
    if not question.ports and not question.processes:
        return report
    kept = tuple(finding for finding in report.findings if _asked_for(finding, question))
    hidden = [finding for finding in report.findings if finding not in kept]
    worst = max((finding.severity for finding in hidden), default=Severity.OK)
    facts = {**report.facts, "hidden_findings": len(hidden), "hidden_worst": worst.label}
    return dataclasses.replace(report, findings=kept, facts=facts)


def _asked_for(finding: Finding, question: Question) -> bool:
    if isinstance(finding.subject, HostSubject):
        return True
    return (not question.ports or bool(_ports(finding) & set(question.ports))) and (
        not question.processes or bool(_processes(finding) & set(question.processes))
    )


def _ports(finding: Finding) -> set[int]:
    """Return the ports that a finding is about: of its subject, or of its sockets' services."""
    subject, services = finding.subject, finding.evidence.get("service_ports")
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
    for key in ("processes", "likely_processes"):
        value = finding.evidence.get(key)
        names |= {str(name) for name in value} if isinstance(value, list) else set()
    return names
