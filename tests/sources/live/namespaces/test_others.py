"""Other network namespaces are counted and named as not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twdiag import lab
from twdiag.errors import SourceRefused
from twdiag.sources.live.namespaces.others import other_namespaces

if TYPE_CHECKING:
    from twdiag.lab import Stage
    from twdiag.model.snapshot import Gap


def seen_inside(stage: Stage) -> list[Gap]:
    """Look from the private namespace: the peer's and the host's are other ones."""
    return other_namespaces()


def test_another_namespace_is_a_gap_and_not_nothing() -> None:
    scenario = lab.find("half-close")
    assert scenario is not None
    try:
        gaps = lab.start(scenario, seen_inside, settle=0.0).result(timeout=30)
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    assert [(gap.what, gap.partial) for gap in gaps] == [("netns", True)]
    assert "not looked at" in gaps[0].why
    assert gaps[0].how == "twdiag --all-netns"


def test_without_proc_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.stat", refused)
    assert other_namespaces() == []
