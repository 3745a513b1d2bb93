"""The help texts: one voice, the same words for the same option, examples that make sense."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from completions import grammar
from tests.running import forked

from .test_man import parsed_by_typer

COMMANDS = list(grammar.read().walk())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_fits_a_terminal_of_80_columns(command: grammar.Command) -> None:
    shown = forked(*command.path, "--help").out
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "..." not in shown.partition("\n")[2]  # a summary that was cut
    assert shown.index("Options:") > shown.index("Usage:")


def test_the_same_option_has_the_same_words_and_takes_the_same_everywhere() -> None:
    said = defaultdict(set)
    for command in COMMANDS:
        for option in command.options:
            # Schemas, sets of formats, kinds of sources, one second sample or many; a file to
            # remember, a socket's state.
            several = ("--json", "--format", "--source", "--interval", "--state")
            if option.names[-1] not in several:
                said[option.names[-1]].add((option.help, option.value, option.bounds))
    assert {name: words for name, words in said.items() if len(words) > 1} == {}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_text_is_one_sentence_that_says_what_to_do(command: grammar.Command) -> None:
    for text in (command.summary, *(option.help for option in command.options)):
        assert re.fullmatch(r"[A-Z].*[^.]\.", text), text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_examples_make_sense(command: grammar.Command) -> None:
    examples = re.findall(r"(?m)^ +(twdiag.*)$", command.epilog)
    assert examples or command.path == ("lab", "list")
    for example in examples:
        words = re.split(r"\s{2,}|\s\|", example)[0].split()[1:]
        parsed_by_typer(words)
