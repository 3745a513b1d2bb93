"""The pages made of manuals: each rule's leads on to pages that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twdiag.explain.library import Library
from twdiag.explain.manuals import SEE, rule_page
from twdiag.explain.page import PageKind
from twdiag.rules import RULES

if TYPE_CHECKING:
    from twdiag.rules.rule import Rule


def test_every_rule_has_its_links_and_nothing_else_has() -> None:
    assert set(SEE) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rules_page_leads_to_written_pages(rule: Rule[Any]) -> None:
    see = rule_page(rule).see
    assert see
    assert len(see) == len(set(see))
    written = {page.name for page in Library().pages}
    assert set(see) <= written


def test_a_page_of_a_rule_is_its_manual() -> None:
    page = rule_page(RULES[0])
    assert (page.kind, page.name) == (PageKind.RULE, RULES[0].name)
    assert page.summary.endswith(".")
    assert page.summary in " ".join(RULES[0].manual.split())
