"""What a process with idle connections waits for."""

from __future__ import annotations

from functools import partial

import pytest

from twdiag import lab
from twdiag.engine.reproduce import observe
from twdiag.errors import SourceRefused


def test_an_idle_leak_says_who_watches_its_connections() -> None:
    scenario = lab.find("idle-established-leak")
    assert scenario is not None
    try:
        report = lab.start(scenario, partial(observe, scenario)).result(timeout=60)
    except SourceRefused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")
    (finding,) = report.findings
    assert finding.rule == "idle-established-leak"
    assert any("nobody watches" in line for line in finding.waits)
    assert finding.steps
