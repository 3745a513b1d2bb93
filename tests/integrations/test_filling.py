"""Templates: strict placeholders, and words that stay words in each program's language."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag import integrations
from twdiag.errors import UsageError

FOLDER = Path(integrations.__file__).parent / "templates"
NAMES = [snippet.name for snippet in integrations.SNIPPETS]
# Anything that a path may have, but for what is refused.
PATHS = st.text(
    st.characters(blacklist_categories=("C", "Z"), blacklist_characters="'\""), min_size=1
)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_names_the_command_and_nothing_else(name: str) -> None:
    text = integrations.snippet(name, ["/usr/bin/twdiag"])
    assert "/usr/bin/twdiag" in text
    assert not re.search(r"@[A-Z_]+@", text)
    assert text.endswith("\n")


def test_every_file_is_a_template_of_a_snippet() -> None:
    assert sorted(p.name for p in FOLDER.iterdir()) == sorted(
        snippet.file for snippet in integrations.SNIPPETS
    )


@pytest.mark.parametrize(
    ("template", "values"),
    [("@TWDIAG@ @OTHER@", {"TWDIAG": "x"}), ("nothing", {"TWDIAG": "x"}), ("@TWDIAG@", {})],
)
def test_an_unknown_or_unused_placeholder_is_a_mistake(
    template: str, values: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="placeholders"):
        integrations.fill(template, values)


def test_a_value_is_not_filled_again() -> None:
    assert integrations.fill("<@A@>", {"A": "@A@"}) == "<@A@>"


@pytest.mark.parametrize("bad", ["a\nb", "it's", 'a"b', "a\tb", "\x1b", "\x7f", "\u2028"])
@pytest.mark.parametrize("name", NAMES)
def test_a_quote_or_control_character_is_refused(name: str, bad: str) -> None:
    with pytest.raises(UsageError, match="the path has a quote or a control character"):
        integrations.snippet(name, [f"/opt/{bad}/twdiag"])


@given(path=PATHS)
def test_a_shell_reads_the_word_as_it_is(path: str) -> None:
    for name in ("nrpe", "checkmk"):
        text = integrations.snippet(name, [path, "-I"])
        line = next(li for li in text.splitlines() if " check --" in li and not li.startswith("#"))
        assert shlex.split(line.partition("]=")[2] or line)[:2] == [path, "-I"]


@given(path=PATHS)
def test_nagios_and_cron_read_the_word_as_it_is(path: str) -> None:
    text = integrations.snippet("nagios", [path])
    line = next(li for li in text.splitlines() if "command_line" in li).partition("command_line")[2]
    assert not re.search(r"(?<!\\);", line)
    undone = line.replace(" $ARG1$", "").replace(r"\;", ";").replace("$$", "$")
    assert shlex.split(undone)[0] == path
    line = integrations.snippet("cron", [path]).splitlines()[-1].partition(" root ")[2]
    assert not re.search(r"(?<!\\)%", line)
    assert shlex.split(line.replace(r"\%", "%"))[0] == path


@given(path=PATHS)
def test_icinga_and_systemd_read_the_word_as_it_is(path: str) -> None:
    line = next(
        li for li in integrations.snippet("icinga2", [path]).splitlines() if "command = [" in li
    )
    word = re.fullmatch(r'  command = \[ "(.*)", "check" \]', line)
    assert word
    assert word[1].replace("$$", "$").replace("\\\\", "\\") == path
    text = integrations.snippet("systemd-timer", [path])
    line = next(li for li in text.splitlines() if li.startswith("ExecStart="))
    word = re.fullmatch(r'ExecStart="?(.*?)"? check --verbose .*', line)
    assert word
    assert word[1].replace("%%", "%").replace("$$", "$").replace("\\\\", "\\") == path
