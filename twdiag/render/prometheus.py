"""Write the answer of a check in the Prometheus text format, for node_exporter's textfile folder.

Base units (seconds, ratios from 0 to 1), few labels with few values, and nothing at all for what
was not seen.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag import __version__
from twdiag.check.metrics import METRICS
from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    DestinationSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
    Severity,
)
from twdiag.model.ranges import number
from twdiag.tcp import State
from twdiag.wording import endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from twdiag.check.metrics import PortShare
    from twdiag.check.verdict import Answer
    from twdiag.model.findings import Finding, LookedAt, Subject

_MOST_SUBJECTS: Final = 20
"""Findings with a subject of their own; the rest is counted under the subject "other"."""
_STATES: Final = frozenset(state.name.lower() for state in State)

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """One metric with its samples, (labels, value)."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


def render_prometheus(answer: Answer, out: TextIO, taken_at: float, seconds: float) -> None:
    """Write all families; a family without samples is left out."""
    for family in _families(answer, taken_at, seconds):
        if family.samples:
            out.write(f"# HELP {family.name} {_escape_help(family.help)}\n")
            out.write(f"# TYPE {family.name} {family.kind}\n")
            for labels, value in family.samples:
                out.write(f"{family.name}{_labels(labels)} {number(value)}\n")


def _labels(labels: Labels) -> str:
    words = ",".join(f'{name}="{_escape(value)}"' for name, value in labels)
    return f"{{{words}}}" if words else ""


def _escape(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", " ")


def _gauge(name: str, text: str, *samples: tuple[Labels, float]) -> Family:
    return Family(name, "gauge", text, samples)


def _families(answer: Answer, taken_at: float, seconds: float) -> Iterator[Family]:
    up = answer.report is not None
    yield _gauge("twdiag_build_info", "Version of twdiag.", ((("version", __version__),), 1))
    yield _gauge(
        "twdiag_source_up", "Whether sockets could be read.", ((("source", answer.source),), up)
    )
    yield _gauge(
        "twdiag_status", "Status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", ((), answer.status)
    )
    yield _gauge(
        "twdiag_last_run_timestamp_seconds", "When this was measured.", ((), round(taken_at, 3))
    )
    yield _gauge("twdiag_duration_seconds", "How long it took.", ((), round(seconds, 3)))
    if answer.report is None:
        return
    yield from _numbers(answer)
    yield from _destinations(answer.busiest)
    findings, everywhere = answer.report.findings, bool(answer.report.namespaces)
    yield _findings_by_severity(findings)
    yield _findings(findings, everywhere)
    yield _exhaustion(findings, everywhere)
    yield from _namespaces(answer.report.namespaces)
    skipped = ((("rule", skip.rule),) for skip in answer.report.skipped)
    yield _gauge(
        "twdiag_rule_skipped",
        "Rules that could not look.",
        *((labels, 1) for labels in skipped),
    )


def _numbers(answer: Answer) -> Iterator[Family]:
    """Yield the measured numbers, the sockets per state as one family."""
    seen = {name: value for name, value in answer.values.items() if value is not None}
    yield _gauge(
        "twdiag_sockets",
        "TCP sockets by state.",
        *(((("state", name),), value) for name, value in seen.items() if name in _STATES),
    )
    for metric in METRICS:
        if metric.name not in seen or metric.name in _STATES or metric.name == "total":
            continue
        name = metric.name + ("_seconds" if metric.unit == "s" else "")
        value = seen[metric.name] / 100 if metric.unit == "%" else seen[metric.name]
        kind = "counter" if metric.unit == "c" else "gauge"
        text = metric.meaning[:1].upper() + metric.meaning[1:] + "."
        yield Family(f"twdiag_{name}", kind, text, (((), value),))


def _destinations(shares: Iterable[PortShare]) -> Iterator[Family]:
    used = [(_destination_labels(share), share) for share in shares]
    yield _gauge(
        "twdiag_destination_ports_used",
        "Local ports in use to the busiest destinations.",
        *((labels, share.used) for labels, share in used),
    )
    yield _gauge(
        "twdiag_destination_ports_taken_ratio",
        "Share of the local ports to a destination that connect() cannot get.",
        *((labels, share.taken_ratio) for labels, share in used),
    )


def _destination_labels(share: PortShare) -> Labels:
    return (("source", share.source), ("destination", endpoint(share.address, share.port)))


def _findings_by_severity(findings: Iterable[Finding]) -> Family:
    counts = Counter(finding.severity for finding in findings)
    return _gauge(
        "twdiag_findings",
        "Findings by severity.",
        *(
            ((("severity", severity.label),), counts[severity])
            for severity in (Severity.NOTICE, Severity.WARNING, Severity.CRITICAL)
        ),
    )


def _findings(findings: Iterable[Finding], everywhere: bool) -> Family:
    """The findings by rule, severity and subject; the worst come first in a report."""
    counts: Counter[Labels] = Counter()
    for index, finding in enumerate(findings):
        few = index < _MOST_SUBJECTS
        labels = (
            ("rule", finding.rule),
            ("severity", finding.severity.label),
            ("subject", subject_name(finding.subject) if few else "other"),
        )
        counts[labels + (_place(finding, few) if everywhere else ())] += 1
    return _gauge("twdiag_finding", "Findings by rule, severity and subject.", *counts.items())


def _place(finding: Finding, few: bool) -> Labels:
    """Return the label for the namespace of a finding; the number of labels is limited."""
    name = finding.netns if finding.namespace is None else finding.namespace.lasting_name
    return (("namespace", name if few else "other"),)


def _exhaustion(findings: Iterable[Finding], everywhere: bool) -> Family:
    """The soonest end of a resource for each rule and subject."""
    soonest: dict[Labels, float] = {}
    for finding in list(findings)[:_MOST_SUBJECTS]:
        left = finding.evidence.get(facts.SECONDS_LEFT)
        if isinstance(left, (int, float)):
            labels: Labels = (("rule", finding.rule), ("subject", subject_name(finding.subject)))
            labels += _place(finding, few=True) if everywhere else ()
            soonest[labels] = min(left, soonest.get(labels, left))
    return _gauge(
        "twdiag_exhaustion_seconds",
        "When ports or descriptors are used up at the present rate.",
        *soonest.items(),
    )


def _namespaces(looked_at: Iterable[LookedAt]) -> Iterator[Family]:
    """Yield how many namespaces were looked at, and the sockets of the busiest."""
    busiest = sorted(looked_at, key=lambda looked: -looked.sockets)
    ways = Counter("outside" if looked.outside else "inside" for looked in busiest)
    yield _gauge(
        "twdiag_namespaces",
        "Network namespaces looked at, from inside or by what others may see of them.",
        *(((("looked", way),), number) for way, number in ways.items()),
    )
    sockets: Counter[str] = Counter()
    for index, looked in enumerate(busiest):
        name = looked.namespace.lasting_name if looked.namespace else looked.label
        sockets[name if index < _MOST_SUBJECTS else "other"] += looked.sockets
    yield _gauge(
        "twdiag_namespace_sockets",
        "TCP sockets of the busiest network namespaces.",
        *(((("namespace", name),), number) for name, number in sockets.items()),
    )


def subject_name(subject: Subject) -> str:
    """Return what a finding is about, without a PID: each would be a new series."""
    if isinstance(subject, (ListenerSubject, DestinationSubject)):
        return endpoint(subject.address, subject.port)
    if isinstance(subject, ProcessSubject):
        return subject.name if subject.pid is not None else f"{subject.name} of {subject.user}"
    if isinstance(subject, PortSubject):
        return f"port {subject.port}"
    return subject.address if isinstance(subject, AddressSubject) else "host"
