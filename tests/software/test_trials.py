"""The trials themselves: each skips, saying what to install, where its program is not there."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from tests.software import stage
from tests.software.__main__ import programs

if TYPE_CHECKING:
    from collections.abc import Callable

TRIALS = [
    pytest.param(trial, id=f"{name}-{key}")
    for name in programs()
    for key, trial in vars(importlib.import_module(f"tests.software.try_{name}")).items()
    if key.startswith("try_")
]


@pytest.mark.parametrize("trial", TRIALS)
def test_a_trial_without_its_program_is_skipped(
    trial: Callable[[stage.Stage], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.shutil, "which", lambda *_, **__: None)
    with pytest.raises(stage.Skipped, match=r"apt-get install|refuses|only root"):
        stage.in_private(trial)


def test_there_are_trials() -> None:
    assert len(TRIALS) > 20


def test_a_statement_that_does_not_hold_is_a_failure() -> None:
    def broken(_: stage.Stage) -> str:
        raise AssertionError("7 of 10")

    with pytest.raises((AssertionError, stage.Skipped), match=r"7 of 10|refuses"):
        stage.in_private(broken)
