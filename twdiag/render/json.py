"""Write a report as JSON, schema "twdiag/1": by hand, never a dump of the internals."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from twdiag.model.findings import (
    AddressSubject,
    DestinationSubject,
    HostSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from twdiag.model.findings import Finding, LookedAt, OtherEnd, Report, Subject
    from twdiag.model.namespaces import Container, Namespace
    from twdiag.model.snapshot import Owner

SCHEMA: Final = "twdiag/1"


def render_json(report: Report, out: TextIO) -> None:
    """Write the report as JSON, schema twdiag/1."""
    write_json(to_json(report), out)


def write_json(value: dict[str, Any], out: TextIO) -> None:
    """Write plain values as indented ASCII JSON with a newline at the end."""
    json.dump(value, out, indent=2, ensure_ascii=True, allow_nan=False)
    out.write("\n")


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "schema": SCHEMA,
        "version": report.version,
        "taken_at": timestamp(report.taken_at),
        "host": {"name": report.host.name, "kernel": report.host.kernel},
        "source": report.source,
        "netns": report.netns,
        "namespaces": [_looked_at(looked) for looked in report.namespaces],
        "status": report.status.label,
        "states": {state.name: number for state, number in report.states.items()},
        "closes_per_second_history": None if report.closes is None else list(report.closes),
        "facts": dict(report.facts),
        "findings": [
            finding_json(finding) | {"group": number}
            for finding, number in zip(report.findings, _groups(report.findings), strict=True)
        ],
        "skipped": [
            {"rule": skip.rule, "reason": skip.reason, "how": skip.how} for skip in report.skipped
        ],
        "gaps": [{"what": gap.what, "why": gap.why, "how": gap.how} for gap in report.gaps],
    }


def _groups(findings: Sequence[Finding]) -> list[int]:
    """Return for each finding which of those it is, counted from 1, that people are told of."""
    if not findings:
        return []  # most checks find nothing, and start faster without
    from twdiag.render.folding import folded

    numbers = {
        id(finding): number
        for number, group in enumerate(folded(findings), start=1)
        for finding in group.members
    }
    return [numbers[id(finding)] for finding in findings]


def timestamp(seconds: float) -> str:
    """Return a UNIX time as "2026-01-02T03:04:05.678Z"."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain values."""
    place = finding.place
    return {
        "rule": finding.rule,
        "severity": finding.severity.label,
        "confidence": finding.confidence.value,
        "netns": finding.netns,
        "namespace": _namespace(
            finding.namespace.label if finding.namespace else finding.netns, finding.namespace
        ),
        "container": _container(finding.container),
        "summary": finding.summary,
        "subject": _subject(finding.subject),
        "evidence": dict(finding.evidence),
        "handshake": None
        if place is None
        else {
            "role": place.role.value,
            "state": place.state.name,
            "step": place.step,
            "next": place.next,
        },
        "pids": list(finding.pids),
        "waits": list(finding.waits),
        "steps": [
            {"run": s.run, "look": s.look, "effect": s.effect, "tool": s.tool}
            for s in finding.steps
        ],
        "other_ends": [_other_end(end) for end in finding.other_ends],
        "why": finding.why,
        "advice": [
            {"do": a.do, "how": a.how, "cost": a.cost, "verify": a.verify} for a in finding.advice
        ],
        "do_not": list(finding.do_not),
    }


def _looked_at(looked: LookedAt) -> dict[str, Any]:
    container = looked.namespace.container if looked.namespace else None
    return _namespace(looked.label, looked.namespace) | {
        "own": looked.namespace is None,
        "outside": looked.outside,
        "container": _container(container),
        "sockets": looked.sockets,
        "findings": looked.findings,
    }


def _namespace(label: str, namespace: Namespace | None) -> dict[str, Any]:
    """Return what leads to a namespace: a process of it and a file; null for this process's own."""
    path = namespace.paths[0] if namespace and namespace.paths else None
    return {
        "name": label,
        "inode": namespace.inode if namespace else None,
        "pid": namespace.pid if namespace else None,
        "path": path,
    }


def _container(container: Container | None) -> dict[str, Any] | None:
    if container is None:
        return None
    return {
        "runtime": container.runtime,
        "id": container.id,
        "name": container.name,
        "pod": container.pod,
    }


def _other_end(end: OtherEnd) -> dict[str, Any]:
    return {
        "netns": end.netns,
        "process": _process(end.process) if end.process else None,
        "sockets": end.sockets,
        "must_act": end.must_act,
        "text": end.text,
    }


def _subject(subject: Subject) -> dict[str, Any]:
    base: dict[str, Any] = {"kind": subject.kind}
    if isinstance(subject, ListenerSubject):
        processes = [_process(owner) for owner in subject.processes]
        return base | {"address": subject.address, "port": subject.port, "processes": processes}
    if isinstance(subject, DestinationSubject):
        ends = {"source": subject.source, "address": subject.address, "port": subject.port}
        return base | ends
    if isinstance(subject, ProcessSubject):
        return base | {"pid": subject.pid, "name": subject.name, "user": subject.user}
    if isinstance(subject, PortSubject):
        return base | {"port": subject.port}
    if isinstance(subject, AddressSubject):
        return base | {"address": subject.address}
    assert isinstance(subject, HostSubject)
    return base


def _process(owner: Owner) -> dict[str, Any]:
    return {"pid": owner.pid, "name": owner.name, "user": owner.user}
