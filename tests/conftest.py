"""One play of every lab scenario, looked at by /proc and as the product looks, for all tests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import pytest
from hypothesis import settings

from tests.lab import proctable
from tests.made import analyze
from twdiag import lab, rules, sources
from twdiag.engine.look import Question, look_closely
from twdiag.engine.reproduce import limits_of
from twdiag.engine.sockets import Listing, SocketsRequest
from twdiag.errors import SourceRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.engine.socket_rows import SocketRow
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
    told: Report
    """The report as `twdiag lab run` gives it, with the causes looked up while all was there."""
    listed: dict[str, list[SocketRow]]
    """What `twdiag sockets --rule` lists for each rule that speaks, and under "" for all others."""

    @property
    def report(self) -> Report:
        """The report with the limits of the scenario."""
        return analyze(self.snapshot, rules.DEFAULTS.replaced(self.limits, "lab"))


def look_twice(scenario: lab.Scenario, stage: Stage) -> tuple[proctable.Seen, Played]:
    """Look by a reader that the product does not share, while the stage is as built; then with it.

    Two plays of all scenarios would take twice as long and show no more.
    """
    return proctable.look(stage), look(scenario, stage)


def look(scenario: lab.Scenario, stage: Stage) -> Played:
    """Collect as `twdiag lab run` does, inside of the scenario's namespace."""
    stage.go_on()
    report, view = look_closely(Question(limits=limits_of(scenario), interval=scenario.interval))
    pids, limits = {actor.name: actor.pid for actor in stage.actors}, scenario.limits
    listed = _listed(report, view.snapshot, limits)
    return Played(view.snapshot, dict(stage.notes), pids, limits, report, listed)


def _listed(
    report: Report, snapshot: Snapshot, limits: Mapping[str, float]
) -> dict[str, list[SocketRow]]:
    """Return the rows behind the findings; a rate may have ended since, so nobody judges anew."""
    with_rows = {rule.name for rule in rules.RULES if rule.rows is not None}
    speaking = {finding.rule for finding in report.findings} & with_rows
    asked = {rule: (rule,) for rule in speaking} | {"": tuple(with_rows - speaking)}
    words = tuple(f"{name}={value}" for name, value in limits.items())
    with mock.patch.object(sources, "collect", return_value=snapshot):
        return {
            name: list(Listing(SocketsRequest(rules=some, limits=words)).rows())
            for name, some in asked.items()
        }


@pytest.fixture(scope="session")
def looks() -> dict[str, tuple[proctable.Seen, Played]]:
    """Both looks at every scenario, by its name."""
    plays = [lab.start(scenario, partial(look_twice, scenario)) for scenario in lab.SCENARIOS]
    try:
        return {play.scenario.name: play.result(timeout=90) for play in plays}
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        for play in plays:
            play.close()


@pytest.fixture(scope="session")
def played(looks: dict[str, tuple[proctable.Seen, Played]]) -> dict[str, Played]:
    """What the product saw of every scenario, by its name."""
    return {name: both[1] for name, both in looks.items()}


@pytest.fixture(scope="session")
def seen(looks: dict[str, tuple[proctable.Seen, Played]]) -> dict[str, proctable.Seen]:
    """What the kernel's own tables showed of every scenario before, by its name."""
    return {name: both[0] for name, both in looks.items()}
