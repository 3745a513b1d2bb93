"""One play of every lab scenario, looked at as the product looks, shared by all tests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import pytest
from hypothesis import settings

from twdiag import lab, rules, sources
from twdiag.engine.look import Question, looked
from twdiag.engine.reproduce import limits_of
from twdiag.engine.sockets import Listing, Request
from twdiag.errors import SourceRefused
from twdiag.rules import runner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.engine.sockets import Row
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
    limits: Mapping[str, float]
    listed: dict[str, list[Row]]
    """What `twdiag sockets --rule` lists for each rule that speaks, and under "" for all others."""

    @property
    def report(self) -> Report:
        """The report with the limits of the scenario."""
        return runner.analyze(self.snapshot, rules.DEFAULTS.replaced(self.limits, "lab"))


def look(scenario: lab.Scenario, stage: Stage) -> Played:
    """Collect as `twdiag lab run` does, inside of the scenario's namespace."""
    stage.go_on()
    report, view = looked(Question(limits=limits_of(scenario), interval=scenario.interval))
    pids, limits = {actor.name: actor.pid for actor in stage.actors}, scenario.limits
    listed = _listed(report, view.snapshot, limits)
    return Played(view.snapshot, dict(stage.notes), pids, limits, listed)


def _listed(
    report: Report, snapshot: Snapshot, limits: Mapping[str, float]
) -> dict[str, list[Row]]:
    """Return the rows behind the findings; a rate may have ended since, so nobody judges anew."""
    with_rows = {rule.name for rule in rules.RULES if rule.rows is not None}
    speaking = {finding.rule for finding in report.findings} & with_rows
    asked = {rule: (rule,) for rule in speaking} | {"": tuple(with_rows - speaking)}
    words = tuple(f"{name}={value}" for name, value in limits.items())
    with mock.patch.object(sources, "collect", return_value=snapshot):
        return {
            name: list(Listing(Request(rules=some, limits=words)).rows())
            for name, some in asked.items()
        }


@pytest.fixture(scope="session")
def played() -> dict[str, Played]:
    """Every scenario by its name."""
    plays = [lab.start(scenario, partial(look, scenario)) for scenario in lab.SCENARIOS]
    try:
        return {play.scenario.name: play.result(timeout=90) for play in plays}
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        for play in plays:
            play.close()
