"""The pages of the scenarios: the chart, each step with its reason, and what to take away."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Crossing, Note, Pause, sequence_chart
from twdiag.explain.page import Block, Drawing, Heading, Item, Kind, Page, prose
from twdiag.explain.play import perform
from twdiag.explain.scenarios import SCENARIOS

if TYPE_CHECKING:
    from twdiag.explain.play import Play
    from twdiag.explain.story import Scenario, Step


@cache
def played(scenario: Scenario) -> Play:
    """Return a scenario as it was played, once."""
    return perform(scenario)


def find_scenario(name: str) -> Scenario | None:
    """Return the scenario of this name, None where the page is about something else."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)


def step_title(step: Step) -> str:
    """Return what a step is, in a few words."""
    if isinstance(step.what, Crossing):
        return f"{step.what.left} and {step.what.right} cross"
    return step.what.text


def _reason(step: Step) -> Item:
    """Return the reason for a step, marked with the number of its segment or its words."""
    if isinstance(step.what, (Note, Pause)):
        return Item(f"[{step.what.text}] {step.why}")
    marks = " and ".join(str(packet.number) for packet in step.packets)
    return Item(step.why, marks)


def _chart(scenario: Scenario, ascii: bool, width: int) -> list[str]:
    return sequence_chart(played(scenario).chart(), ascii=ascii, width=width)


def scenario_page(scenario: Scenario) -> Page:
    """Return the page of a scenario."""
    body: tuple[Block, ...] = (
        *prose(scenario.summary),
        Drawing(partial(_chart, scenario)),
        Heading("Step by step (the numbers are those of the segments)"),
        *(_reason(step) for step in played(scenario).steps if step.why),
        Heading("What to take away"),
        *prose(scenario.lesson),
    )
    return Page(
        scenario.name,
        Kind.SCENARIO,
        scenario.title,
        scenario.summary,
        body,
        scenario.see,
        scenario.cites,
    )


PAGES: Final = tuple(scenario_page(scenario) for scenario in SCENARIOS)
