"""Fold findings that are alike in many namespaces into one: the worst, with how many there are."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twdiag.model.findings import Finding

MANY: Final = 3
"""From so many namespaces on, findings of one rule are one line."""


class Folded(NamedTuple):
    """The worst of some findings of one rule; `findings` counts it too, `namespaces` is 1 alone."""

    worst: Finding
    findings: int = 1
    namespaces: int = 1


def folded(findings: Sequence[Finding]) -> list[Folded]:
    """Return findings with those of a rule in one where they are spread over many namespaces.

    The order stays: a group stands where its worst finding does, which is the first.
    """
    by_rule: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_rule[finding.rule].append(finding)
    places = {rule: {(f.netns, f.namespace) for f in alike} for rule, alike in by_rule.items()}
    result, told = [], set[str]()
    for finding in findings:
        rule = finding.rule
        if len(places[rule]) < MANY:
            result.append(Folded(finding))
        elif rule not in told:
            told.add(rule)
            result.append(Folded(finding, len(by_rule[rule]), len(places[rule])))
    return result
