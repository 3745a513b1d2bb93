"""The scenarios that can be drawn and walked through, in the order of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.scenarios.abrupt import ABRUPT
from twdiag.explain.scenarios.again import AGAIN
from twdiag.explain.scenarios.closing import CLOSING
from twdiag.explain.scenarios.opening import OPENING
from twdiag.explain.scenarios.trouble import TROUBLE
from twdiag.explain.scenarios.unanswered import UNANSWERED

if TYPE_CHECKING:
    from twdiag.explain.play import Scenario

SCENARIOS: Final[tuple[Scenario, ...]] = (
    *OPENING,
    *CLOSING,
    *TROUBLE,
    *UNANSWERED,
    *AGAIN,
    *ABRUPT,
)


def find_scenario(name: str) -> Scenario | None:
    """Return the scenario of this name, None where the page is about something else."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
