"""What `twdiag lab run` does: find the scenario that is meant, and diagnose its sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.engine.look import Question, look
from twdiag.errors import UsageError
from twdiag.lab import SCENARIOS, find
from twdiag.model.limits import nearest
from twdiag.rules import DEFAULTS, RULES

if TYPE_CHECKING:
    from twdiag.lab import Scenario, Stage
    from twdiag.model.findings import Report
    from twdiag.model.limits import Limits


def chosen_scenario(name: str) -> Scenario:
    """Return the scenario of a name; raises UsageError, which names those of a rule."""
    scenario = find(name)
    if scenario is not None:
        return scenario
    if any(rule.name == name for rule in RULES):
        shows = scenarios_of(name)
        if shows:
            raise UsageError(
                f"{name} is a rule, shown by {_listed([s.name for s in shows])}",
                f"run one of them: twdiag lab run {shows[0].name}",
            )
        raise UsageError(
            f"{name} is a rule that no scenario shows: its limit is the host's",
            f"read about it: twdiag explain {name}",
        )
    near = nearest(name, [s.name for s in SCENARIOS])
    raise UsageError(f"there is no scenario {name!r}{near}", "list them: twdiag lab list")


def scenarios_of(rule: str) -> list[Scenario]:
    """Return the scenarios that make a rule speak."""
    return [s for s in SCENARIOS if any(expected.rule == rule for expected in s.expects)]


def _listed(names: list[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def observe(scenario: Scenario, stage: Stage) -> Report:
    """Diagnose the namespace that this process is in, while the scenario's programs go on."""
    stage.go_on()
    return look(Question(limits=limits_of(scenario), interval=scenario.interval))


def limits_of(scenario: Scenario) -> Limits:
    """Return the limits that a scenario is diagnosed with."""
    return DEFAULTS.replaced(scenario.limits, "lab")
