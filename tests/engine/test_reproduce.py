"""The names that `lab run` takes."""

from __future__ import annotations

import pytest

from twdiag.engine.reproduce import chosen_scenario, scenarios_of
from twdiag.errors import UsageError
from twdiag.lab import SCENARIOS, find
from twdiag.rules import RULES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_run_or_leads_to_the_scenarios_that_show_it(rule: object) -> None:
    name: str = rule.name  # type: ignore[attr-defined]
    if not scenarios_of(name):
        with pytest.raises(UsageError, match="no scenario shows") as refused:
            chosen_scenario(name)
        assert refused.value.next_step.endswith(f"twdiag explain {name}")
        return
    if find(name) is not None:
        assert chosen_scenario(name).name == name
        return
    with pytest.raises(UsageError) as refused:
        chosen_scenario(name)
    assert refused.value.what.startswith(f"{name} is a rule, shown by ")
    for scenario in scenarios_of(name):
        assert scenario.name in refused.value.what
    assert find(refused.value.next_step.rpartition(" ")[2]) in SCENARIOS


def test_some_rule_has_no_scenario_of_its_name() -> None:
    assert any(find(rule.name) is None for rule in RULES)  # else the test above proves little


def test_a_misspelt_scenario_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'close-wait-leak'"):
        chosen_scenario("close-wait-leek")
