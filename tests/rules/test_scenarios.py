"""The confusion table: every rule on the real sockets of every scenario of the lab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from twdiag import lab, rules
from twdiag.software import all_software
from twdiag.wording import command_in

if TYPE_CHECKING:
    from tests.conftest import Played

SCENARIOS = {scenario.name: scenario for scenario in lab.SCENARIOS}


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_exactly_the_expected_rules_fire(name: str, played: dict[str, Played]) -> None:
    expected = sorted((e.rule, e.severity) for e in SCENARIOS[name].expects)
    report = played[name].report
    assert sorted((f.rule, f.severity.label) for f in report.findings) == expected
    for wanted in SCENARIOS[name].expects:
        evidence = [f.evidence for f in report.findings if f.rule == wanted.rule]
        assert any(wanted.evidence.items() <= dict(e).items() for e in evidence), evidence


def test_every_rule_fires_in_some_scenario_and_is_silent_in_another() -> None:
    fired = {e.rule for scenario in lab.SCENARIOS for e in scenario.expects}
    assert fired == {rule.name for rule in rules.RULES}
    for rule in rules.RULES:
        silent = [s for s in lab.SCENARIOS if all(e.rule != rule.name for e in s.expects)]
        assert silent, rule.name


def test_no_advice_is_a_chain_of_colons(played: dict[str, Played]) -> None:
    titles = tuple(f"{software.title}: " for software in all_software())
    for name, play in played.items():
        for advice in (advice for finding in play.told.findings for advice in finding.advice):
            do = advice.do.partition(": ")[2] if advice.do.startswith(titles) else advice.do
            prose = advice.how.removesuffix(command_in(advice.how)).removesuffix(": ")
            said = re.sub(r"\(.*?\)|\".*?\"", "", f"{do}: {prose}".removesuffix(": "))
            assert said.count(": ") <= 1, (name, advice)


def test_every_number_of_a_summary_is_in_the_evidence(played: dict[str, Played]) -> None:
    for name, play in played.items():
        for finding in play.report.findings:
            known = [finding.subject._asdict(), *finding.evidence.values()]
            numbers = [v for v in finding.evidence.values() if isinstance(v, (int, float))]
            for word in re.findall(r"(?<![\w.:])\d[\d,]*(?![\w.]*\d)", finding.summary):
                value = int(word.replace(",", ""))
                near = any(abs(n - value) <= 1 or abs(100 * n - value) <= 1 for n in numbers)
                assert near or str(value) in str(known), (name, finding.summary, word)
