"""How the tests run, and one play of every scenario for them: by /proc and as the product looks."""

from __future__ import annotations

import fcntl
import gc
import os
import pickle
import signal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from unittest import mock

import pytest
from hypothesis import settings

from tests.lab import proctable
from tests.loaded import load_all
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


def pytest_configure() -> None:
    """Heed signals: what a shell starts with & or nohup ignores them, and all it starts too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the whole suite between three processes, since it mostly waits; run a part in this one.

    Each process has to load all tests before: a part is sooner done without.
    """
    whole = config.args == config.getini("testpaths") and not config.option.keyword
    return 3 if whole else 0


def pytest_collection_finish() -> None:
    """Keep the thousands of tests out of the garbage collections of this process and its forks."""
    gc.collect()
    gc.freeze()


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


Looks: TypeAlias = "dict[str, tuple[proctable.Seen, Played]]"


def look_twice(scenario: lab.Scenario, stage: Stage) -> tuple[proctable.Seen, Played]:
    """Look by a reader that the product does not share, and with it, while the stage is as built.

    Two plays of all scenarios would take twice as long and show no more.
    """
    if scenario.settle or stage.later:
        return proctable.look(stage), look(scenario, stage)
    # A closing rate is that of the last three seconds: on a busy host the other reader takes one.
    played = look(scenario, stage)
    return proctable.look(stage), played


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
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    """Both looks at every scenario, by its name."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _all_looks()
    # The first worker that needs them plays, for all: their folders stand in that of the run.
    kept = tmp_path_factory.getbasetemp().parent / "looks"
    with open(kept.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_all_looks()))
    found: Looks = pickle.loads(kept.read_bytes())
    return found


def _all_looks() -> Looks:
    """Play all scenarios at the same time; skip where there can be no namespace."""
    load_all()
    plays = [lab.start(scenario, partial(look_twice, scenario)) for scenario in lab.SCENARIOS]
    try:
        return {play.scenario.name: play.result(timeout=90) for play in plays}
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        for play in plays:
            play.close()


@pytest.fixture(scope="session")
def played(looks: Looks) -> dict[str, Played]:
    """What the product saw of every scenario, by its name."""
    return {name: both[1] for name, both in looks.items()}


@pytest.fixture(scope="session")
def seen(looks: Looks) -> dict[str, proctable.Seen]:
    """What the kernel's own tables showed of every scenario before, by its name."""
    return {name: both[0] for name, both in looks.items()}
