"""What a process with idle connections waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Played


def test_an_idle_leak_says_who_watches_its_connections(played: dict[str, Played]) -> None:
    (finding,) = played["idle-established-leak"].told.findings
    assert finding.rule == "idle-established-leak"
    assert any("nobody watches" in line for line in finding.waits)
    assert finding.steps
