"""Which rules run, and what an OK of some of them says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.running import forked
from twdiag.engine.choice import chosen_rules
from twdiag.errors import UsageError
from twdiag.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.running import Said

NAMES = [rule.name for rule in RULES]


def test_a_rule_that_is_selected_and_ignored_is_a_mistake(check: Callable[..., Said]) -> None:
    words = ("--select", "close-wait-leak", "--ignore", "close-wait-leak")
    said = check(*words)
    assert said.code == 3
    assert said.line == "TWDIAG UNKNOWN - --select and --ignore both name close-wait-leak"
    with pytest.raises(UsageError):
        chosen_rules(NAMES[:2], NAMES[1:3])


def test_no_rule_at_all_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="nothing would be judged"):
        chosen_rules((), NAMES)
    with pytest.raises(UsageError, match="nothing would be judged"):
        chosen_rules((), (), NAMES)


def test_a_rule_asked_for_beats_the_settings() -> None:
    assert [r.name for r in chosen_rules(NAMES[:1], (), NAMES)] == NAMES[:1]
    assert [r.name for r in chosen_rules((), (), NAMES[1:])] == NAMES[:1]


def test_an_ok_of_some_rules_says_so(on: Callable[..., Said]) -> None:
    said = on("idle", "--select", "close-wait-leak")
    assert said.line.startswith("TWDIAG OK - only close-wait-leak ran, 0 TIME_WAIT")
    words = [word for name in NAMES[:3] for word in ("--select", name)]
    assert f"only 3 of {len(NAMES)} rules ran" in on("idle", *words).line
    every = [word for name in NAMES for word in ("--select", name)]
    assert "ran" not in on("idle", *every).line
    report = json.loads(on("idle", "--select", "close-wait-leak", "--format", "json").out)
    assert [gap["why"] for gap in report["gaps"] if gap["what"] == "rules"] == [
        "only close-wait-leak ran"
    ]


def test_an_ok_without_some_rules_says_how_many_where_there_is_room(
    on: Callable[..., Said],
) -> None:
    said = on("idle", "--ignore", NAMES[0], "--ignore", NAMES[1], "-v")
    assert said.line.endswith("of ports used, 2 rules ignored")
    assert f"NOT RUN: 2 rules ignored: {NAMES[0]}, {NAMES[1]}" in said.out
    assert "ignored" not in on("idle").line
    # What is selected leaves nothing to ignore.
    assert "ignored" not in on("idle", "--select", NAMES[0], "--ignore", NAMES[1]).line


def test_so_does_one_whose_settings_ignore_rules(on: Callable[..., Said], tmp_path: Path) -> None:
    settings = tmp_path / "twdiag.toml"
    settings.write_text(f'[check]\nignore = ["{NAMES[0]}"]\n', encoding="ascii")
    said = on("idle", "--config", str(settings), "-vv")
    assert said.line.endswith(", 1 rule ignored")
    assert f"NOT RUN: 1 rule ignored: {NAMES[0]} (take them out" in said.out


@pytest.mark.parametrize("detail", [(), ("--brief",), ("--full",)])
def test_so_does_the_report(detail: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from twdiag.cli import run

    assert run(["diagnose", "--this-netns", "--select", "close-wait-leak", *detail]) == 0
    verdict = capsys.readouterr().out.splitlines()["--full" in detail]
    assert "only close-wait-leak ran" in verdict
    assert run(["diagnose", "--this-netns", "--ignore", "close-wait-leak", *detail]) == 0
    assert "1 rule ignored" in capsys.readouterr().out


def test_so_does_the_watch() -> None:
    said = forked("watch", "--count", "1", "--ignore", "close-wait-leak")
    assert "rules    1 rule ignored: close-wait-leak (leave out --ignore to run all)" in said.out
