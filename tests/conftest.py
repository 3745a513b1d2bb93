"""One play of every lab scenario, looked at as the product looks, shared by all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

from twdiag import lab, rules, sources
from twdiag.engine.look import Question, examined
from twdiag.errors import SourceRefused
from twdiag.rules import runner

if TYPE_CHECKING:
    from twdiag.lab import Stage
    from twdiag.model.findings import Report
    from twdiag.model.snapshot import Snapshot

pytest_plugins = ["tests.running"]

settings.register_profile("twdiag", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("twdiag")


class Played(NamedTuple):
    """What was seen of one scenario: the snapshot with owners, and what its build noted."""

    snapshot: Snapshot
    notes: dict[str, object]
    pids: dict[str, int]

    @property
    def report(self) -> Report:
        """The report with the default limits."""
        return runner.analyze(self.snapshot, rules.DEFAULTS)


def look(stage: Stage) -> Played:
    """Collect as `twdiag diagnose` does, inside of the scenario's namespace."""
    _, view = examined(sources.collect(), Question())
    return Played(view.snapshot, dict(stage.notes), {a.name: a.pid for a in stage.actors})


@pytest.fixture(scope="session")
def played() -> dict[str, Played]:
    """Every scenario by its name."""
    plays = [lab.start(scenario, look) for scenario in lab.SCENARIOS]
    try:
        return {play.scenario.name: play.result(timeout=90) for play in plays}
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        for play in plays:
            play.close()
