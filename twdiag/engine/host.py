"""Look at every network namespace of the host: this one whole, the others within a time budget."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from twdiag import sources
from twdiag.engine.causes import with_causes
from twdiag.engine.look import examined, filtered, look
from twdiag.model.findings import LookedAt
from twdiag.sources.live.namespaces import find_namespaces, left_out, visit

if TYPE_CHECKING:
    from twdiag.engine.look import Question
    from twdiag.model.findings import Report
    from twdiag.model.namespaces import Namespace

BUDGET_SECONDS: Final = 2.0
"""How long the other namespaces may take together: who waits for the report is woken at night."""

_CAUSES_SECONDS: Final = 0.5


def look_at_all(question: Question, seconds: float = BUDGET_SECONDS) -> Report:
    """Return one report on all namespaces; those left out are gaps, with their names.

    Findings of other namespaces carry the name of theirs; states, closes and facts are those of
    this one.
    """
    own = look(question)
    found = find_namespaces()
    others = tuple(namespace for namespace in found.namespaces if not namespace.own)
    visits = list(visit(others, partial(_report, question), seconds))
    reports = [(one.namespace, one.result) for one in visits if one.result is not None]
    elsewhere = [
        replace(finding, netns=namespace.label)
        for namespace, report in reports
        for finding in report.findings
    ]
    findings = sorted((*own.findings, *elsewhere), key=lambda finding: -finding.severity)
    looked_at = [LookedAt(own.netns, sum(own.states.values()), len(own.findings))]
    looked_at += [
        LookedAt(namespace.label, sum(report.states.values()), len(report.findings))
        for namespace, report in reports
    ]
    return replace(
        own,
        findings=tuple(findings),
        gaps=(*own.gaps, *found.gaps, *left_out(visits)),
        namespaces=tuple(looked_at),
    )


def _report(question: Question, namespace: Namespace) -> Report:
    """Return the report on the namespace that this process has entered."""
    snapshot = replace(sources.collect(question.source), netns=namespace.label)
    report, view = examined(snapshot, question)
    return with_causes(filtered(report, question), view, _CAUSES_SECONDS)
