"""Every word that twdiag itself uses finds a page, with the next command on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import twdiag
import twdiag.lab.kernel as lab_kernel
from twdiag.explain.layout import set_page
from twdiag.explain.library import Library
from twdiag.explain.page import Command, Heading, PageKind
from twdiag.explain.terms import Practice
from twdiag.lab import SCENARIOS
from twdiag.model.facts import catalogue
from twdiag.model.waits import Act, Cause
from twdiag.rules import LIMITS, RULES
from twdiag.software import all_software
from twdiag.tcp import State

PRACTICES = tuple(
    Practice(one.name, one.summary, one.teaches, tuple(e.rule for e in one.expects))
    for one in SCENARIOS
)
LIBRARY = Library(RULES, all_software(), practices=PRACTICES)


def commands(words: str) -> list[str]:
    page = LIBRARY.find(words)
    return [block.command for block in page.body if isinstance(block, Command)]


def sysctls() -> list[str]:
    """Return the sysctls with a full name that stand anywhere in the program and its pages."""
    root = Path(twdiag.__file__).parent
    texts = [path for end in ("py", "md", "toml") for path in root.rglob(f"*.{end}")]
    name = r"\b(?:net\.(?:ipv4|core|netfilter)|fs|kernel)\.[a-z][a-z0-9_.-]*[a-z0-9]\b(?!\.?\()"
    found = {word for path in texts for word in re.findall(name, path.read_text("utf-8"))}
    # In Python some of these are the functions of a module.
    found -= {word for word in found if hasattr(lab_kernel, word.rpartition(".")[2])}
    return sorted(word for word in found if "_" in word or "." in word.partition(".")[2])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_scenario_leads_to_its_rules_and_to_the_lab(scenario: object) -> None:
    name = scenario.name  # type: ignore[attr-defined]
    page = LIBRARY.find(name)
    assert page.kind is PageKind.RULE or f"twdiag lab run {name}" in commands(name)
    if page.kind is PageKind.LAB:
        for expected in scenario.expects:  # type: ignore[attr-defined]
            assert f"twdiag explain {expected.rule}" in commands(name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_shows_the_scenarios_that_make_it_speak(rule: object) -> None:
    name = rule.name  # type: ignore[attr-defined]
    shown = [f"twdiag lab run {one.name}" for one in PRACTICES if name in one.rules]
    page = LIBRARY.find(name)
    assert page.kind is PageKind.RULE
    assert set(commands(name)) & set(shown) == set(shown[:3])
    assert (Heading("See it in the lab") in page.body) is bool(shown)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_leads_to_its_rules(limit: object) -> None:
    name = limit.name  # type: ignore[attr-defined]
    page = LIBRARY.find(name)
    assert page.name == name
    rules = [rule.name for rule in RULES if limit in rule.limits]
    if page.kind is PageKind.RULE:  # a limit on how many findings a rule has bears its name
        assert name in rules
        return
    assert {f"twdiag explain {rule}" for rule in rules} <= set(commands(name))


@pytest.mark.parametrize("key", list(catalogue()))
def test_a_piece_of_evidence_is_explained(key: str) -> None:
    page = LIBRARY.find(key)
    assert page.kind is not PageKind.TERM or "twdiag diagnose --full" in commands(key)
    assert LIBRARY.find(catalogue()[key].label)


@pytest.mark.parametrize("word", [*Cause, *Act], ids=lambda word: word.value)
def test_what_threads_wait_for_is_explained(word: Cause | Act) -> None:
    assert LIBRARY.find(word.value).name == word.value
    assert "twdiag explain forgotten-or-stuck" in commands(word.value)


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_state_is_explained_in_each_spelling(state: State) -> None:
    for word in (state.name, state.ss, state.rfc):
        assert LIBRARY.find(word).kind is PageKind.STATE


@pytest.mark.parametrize("name", sysctls())
def test_a_sysctl_is_explained_and_named_where_it_leads(name: str) -> None:
    page = LIBRARY.find(name)
    text = " ".join(line.text for line in set_page(page, ascii=True, width=80))
    assert name.rpartition(".")[2] in text


@pytest.mark.parametrize("practice", PRACTICES, ids=lambda practice: practice.name)
@pytest.mark.parametrize("width", [60, 80])
def test_a_page_of_the_lab_fits(practice: Practice, width: int) -> None:
    for line in set_page(LIBRARY.find(practice.name), ascii=True, width=width):
        assert len(line.text) <= (80 if line.style in ("command", "code") else width)


def test_what_is_misspelt_gets_the_scenario() -> None:
    assert "select-limit" in LIBRARY.near("selectlimitt")
