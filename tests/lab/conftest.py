"""One play of every scenario, all at the same time, shared by the tests."""

from __future__ import annotations

import time

import pytest

from twdiag import lab
from twdiag.errors import SourceRefused

from .proctable import Seen, look


@pytest.fixture(scope="session")
def started() -> float:
    """When the plays began, by time.monotonic()."""
    return time.monotonic()


@pytest.fixture(scope="session")
def seen(started: float) -> dict[str, Seen]:
    """What an observer saw in each scenario, by its name."""
    plays = [lab.start(scenario, look) for scenario in lab.SCENARIOS]
    try:
        results = {play.scenario.name: play.result(timeout=60) for play in plays}
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        for play in plays:
            play.close()
    assert time.monotonic() - started < 40
    return results
