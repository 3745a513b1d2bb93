"""Options that contradict each other are refused in one sentence, never silently dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.running import forked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "what", "step"),
    [
        ("--json --brief", "--json and --brief exclude each other", "JSON has everything"),
        ("--format json --brief", "--format json and --brief exclude", "JSON has everything"),
        ("--json --format nagios", "--json and --format nagios exclude", "use one of them"),
        ("--json --format prometheus", "--json and --format prometheus", "use one of them"),
        ("--format prometheus --brief", "--format prometheus and --brief", "leave it out"),
        ("--format prometheus --full", "--format prometheus and --full", "leave it out"),
        ("--format nagios --brief --full", "--brief and --full exclude", "use one of them"),
        ("--brief --full", "--brief and --full exclude each other", "use one of them"),
        ("--format nagios --all-netns --this-netns", "--all-netns and --this-netns", "use one"),
        ("lab run close-wait-leak --json --brief", "--json and --brief exclude", "JSON has"),
        ("explain last-ack-lost --step --json", "--step and --json exclude", "use one of them"),
        ("explain CLOSE_WAIT --step --live", "--step and --live exclude", "use one of them"),
        ("sockets --json --csv", "--json and --csv exclude each other", "use one of them"),
        ("sockets --netns 1 --all-netns", "--netns and --all-netns exclude", "use one of them"),
    ],
)
def test_two_words_that_exclude_each_other_are_refused(words: str, what: str, step: str) -> None:
    said = forked(*words.split())
    assert (said.code, said.out) == (3, "")
    first, second = said.err.splitlines()
    assert first.startswith(f"twdiag: {what}")
    assert step in second


@pytest.mark.parametrize(
    ("words", "what", "step"),
    [
        ("--quiet --notify-on always", "--quiet and --notify-on always exclude each other", "use"),
        ("--quiet --notify-on change --state s", "--quiet and --notify-on change exclude", "use"),
        ("--list-metrics --show-limits", "--list-metrics and --show-limits exclude", "use one"),
        ("--show-limits --print-config cron", "--show-limits and --print-config exclude", "use"),
        (
            "--show-limits --output f",
            "--show-limits and --output exclude each other",
            "redirect it",
        ),
        ("--print-config cron --output f", "--print-config and --output exclude", "redirect it"),
        ("--list-metrics --format json", "--list-metrics and --format json exclude", "writes text"),
        ("--print-config cron --state s", "--print-config and --state exclude", "add --state to"),
        ("--print-config cron -w time_wait=1", "--print-config and --warning", "add --warning to"),
        ("--quiet --output f", "--quiet and --output exclude each other", "at every run"),
        ("--notify-on change --state s --output f", "--notify-on change and --output", "at every"),
        ("--state f --output ./f", "--state and --output both name f", "name two files"),
    ],
)
def test_so_does_a_check_and_it_is_unknown(
    words: str, what: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = forked("check", *words.split())
    assert (said.code, said.err) == (3, "")
    assert said.line.startswith(f"TWDIAG UNKNOWN - {what}")
    assert step in said.out.splitlines()[-1]


def test_a_state_is_not_written_over_by_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("remembered")
    other = f"{tmp_path}/../{tmp_path.name}/state"
    assert forked("check", "--state", str(file), "--output", other).code == 3
    assert file.read_text() == "remembered"


@pytest.mark.parametrize("format", ["json", "prometheus", "checkmk"])
def test_a_format_for_programs_is_never_silent(format: str) -> None:
    said = forked("check", "--format", format, "--quiet")
    assert said.code == 3
    assert said.out  # in the format that was asked for
    assert said.out.startswith("TWDIAG") is False
    if format != "prometheus":
        assert f"--quiet goes with the format text, not {format}" in said.out


@pytest.mark.parametrize(
    "words", ["--json --full --this-netns", "check --quiet --notify-on problem"]
)
def test_what_says_the_same_twice_is_none(words: str) -> None:
    assert forked(*words.split()).code != 3
