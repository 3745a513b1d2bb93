"""The man pages: they render without a warning, and say all that the program has, and no more."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from completions import grammar
from twdiag.analysis.close_summary import TraceOutcome
from twdiag.check.metrics import METRICS
from twdiag.engine.port import examine
from twdiag.model import facts
from twdiag.model.nat import Diversion, Diversions
from twdiag.model.snapshot import Gap, Owner
from twdiag.model.sockets import Socket
from twdiag.render.port import to_json
from twdiag.render.trace_json import summary_json
from twdiag.rules import LIMITS, RULES
from twdiag.sources.live.sockets.one_port import PortRow
from twdiag.tcp import State

from .shells import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Played

PAGES: Final = sorted((ROOT / "man").glob("twdiag*.[17]"))
COMMANDS: Final = {command.path: command for command in grammar.read().walk()}
PAGE_OF: Final = {
    (): "twdiag.1",
    ("diagnose",): "twdiag-diagnose.1",
    ("check",): "twdiag-check.1",
    ("watch",): "twdiag-watch.1",
    ("trace",): "twdiag-trace.1",
    ("explain",): "twdiag-explain.1",
    ("sockets",): "twdiag-sockets.1",
    ("port",): "twdiag-port.1",
    ("doctor",): "twdiag-doctor.1",
    ("lab",): "twdiag-lab.1",
    ("lab", "list"): "twdiag-lab.1",
    ("lab", "run"): "twdiag-lab.1",
    ("help",): "twdiag.1",
}
SECTIONS: Final = (
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "ENVIRONMENT",
    "FILES",
    "EXIT STATUS",
    "FIELDS",
    "OVERHEAD",
    "CAVEATS",
    "EXAMPLES",
    "SEE ALSO",
)


def source(name: str) -> str:
    """Return the text of a page, hyphens as they are shown."""
    return (ROOT / "man" / name).read_text("utf-8").replace("\\-", "-").replace("\\&", "")


def rendered(page: Path) -> str:
    """Return a page as `man` shows it, wide enough to break no name."""
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "200", "MANPAGER": "cat"},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r".\x08", "", done.stdout)


def test_every_command_has_a_page() -> None:
    assert set(PAGE_OF) == set(COMMANDS)
    assert {page.name for page in PAGES} == {*PAGE_OF.values(), "twdiag-rules.7"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_page_renders_without_a_warning(page: Path) -> None:
    assert page.stem.upper() in rendered(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_nothing_to_warn_of(page: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(page)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""


def test_what_is_generated_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "man" / "generate"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), "run man/generate"


@pytest.mark.parametrize("name", sorted(set(PAGE_OF.values())))
def test_each_page_has_every_section(name: str) -> None:
    found = re.findall(r"(?m)^\.Sh (.+)$", source(name))
    assert sorted(set(SECTIONS) - set(found)) == []
    assert found.index("EXIT STATUS") < found.index("EXAMPLES") < found.index("SEE ALSO")


@pytest.mark.parametrize("path", PAGE_OF, ids=" ".join)
def test_each_option_is_told_in_the_words_of_the_help(path: tuple[str, ...]) -> None:
    text = " ".join(rendered(ROOT / "man" / PAGE_OF[path]).split())
    for option in COMMANDS[path].options:
        for name in (*option.names, *option.off):
            assert re.search(rf"(?<!\S){name}(?![\w-])", text), name
        assert " ".join(option.help.split()) in text, option.names
        for choice in option.value.choices if option.value else ():
            assert choice in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_tells_of_an_option_that_does_not_exist(page: Path) -> None:
    known = {
        name
        for command in COMMANDS.values()
        for option in command.options
        for name in (*option.names, *option.off)
    }
    text = source(page.name)
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    told |= {f"-{name}" for name in re.findall(r"\bFl (-[a-z][a-z-]*)", text)}
    assert sorted(told - known) == []


def test_each_rule_and_limit_is_told() -> None:
    text = rendered(ROOT / "man" / "twdiag-rules.7")
    for rule in RULES:
        assert len(re.findall(rf"(?m)^ +{rule.name}$", text)) >= 2  # in the list and its manual
    for limit in LIMITS:
        assert re.search(rf"(?m)^ +{limit.name}( |$)", text), limit.name


def test_each_metric_is_told_and_no_other() -> None:
    text = source("twdiag-check.1")
    part = text.partition('.\\" begin metrics')[2].partition('.\\" end')[0]
    assert re.findall(r"(?m)^\.It Cm (\S+)$", part) == [metric.name for metric in METRICS]


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("twdiag.1", ["0", "1", "2", "3", "130"]),
        ("twdiag-diagnose.1", ["0", "3", "130"]),
        ("twdiag-check.1", ["0", "1", "2", "3", "130"]),
        ("twdiag-watch.1", ["0", "3", "130"]),
        ("twdiag-trace.1", ["0", "3", "130"]),
        ("twdiag-explain.1", ["0", "3", "130"]),
        ("twdiag-port.1", ["0", "3", "130"]),
        ("twdiag-sockets.1", ["0", "3", "130"]),
        ("twdiag-doctor.1", ["0", "3", "130"]),
        ("twdiag-lab.1", ["0", "3", "130"]),
    ],
)
def test_each_exit_code_is_told(name: str, codes: list[str]) -> None:
    section = source(name).partition(".Sh EXIT STATUS\n")[2].partition("\n.Sh ")[0]
    assert re.findall(r"(?m)^\.It (\d+)$", section) == codes


def told_evidence() -> set[str]:
    """Return the keys of evidence that twdiag-diagnose(1) explains."""
    section = source("twdiag-diagnose.1").partition(".Ss Evidence\n")[2].partition("\n.Sh ")[0]
    heads = re.findall(r"(?m)^\.It Cm (.+)$", section)
    return {key for head in heads for key in head.replace(",", " ").split()}


def test_each_piece_of_evidence_is_explained_and_no_other() -> None:
    assert told_evidence() == set(facts.catalogue())


def test_what_real_sockets_give_as_evidence_is_explained(played: dict[str, Played]) -> None:
    given = {
        key
        for play in played.values()
        for finding in play.report.findings
        for key in finding.evidence
    }
    assert sorted(given - told_evidence()) == []


def keys_of(value: Any) -> set[str]:
    """Return every key in a value that JSON was made of."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set[str]().union(*map(keys_of, value)) if isinstance(value, list) else set()


def untold(name: str, keys: set[str]) -> list[str]:
    """Return the keys that a page does not name."""
    return sorted(key for key in keys if not re.search(rf"\b{re.escape(key)}\b", source(name)))


def test_each_key_of_the_json_of_a_port_is_told() -> None:
    held = PortRow(Socket(State.LISTEN, "10.0.0.1", 8080, "0.0.0.0", 0, inode=7))
    report = examine(8080, [held], {}, {7: (Owner(1, "web", "root"),)}, [Gap("x", "y", "z")])
    report = replace(report, nat=Diversions((Diversion("10.0.0.2", 80),)))
    keys = keys_of(to_json(report)) - {"schema", "version"}
    assert {"remotes", "user", "how", "by_rule"} <= keys
    assert untold("twdiag-port.1", keys) == []


def test_each_key_of_the_summary_of_a_trace_is_told() -> None:
    keys = keys_of(summary_json(TraceOutcome("tracefs", 0.0, 5.0)))
    assert "both_at_once" in keys
    assert untold("twdiag-trace.1", keys) == []


def test_each_prometheus_metric_is_told() -> None:
    text = source("twdiag-check.1")
    renderer = (ROOT / "twdiag" / "render" / "prometheus.py").read_text("utf-8")
    for name in set(re.findall(r'"(twdiag_[a-z_]+)"', renderer)):
        assert re.search(rf"\b{name}\b", text), name


def test_each_variable_is_told() -> None:
    text = source("twdiag.1")
    code = "".join(path.read_text("utf-8") for path in (ROOT / "twdiag").rglob("*.py"))
    used = set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', code))
    used |= set(re.findall(r'"([A-Z_]+)" in os\.environ', code))
    assert used >= {"NO_COLOR", "TWDIAG_CONFIG", "TWDIAG_DEBUG"}
    assert [name for name in sorted(used) if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_example_makes_sense(page: Path) -> None:
    examples = source(page.name).partition(".Sh EXAMPLES\n")[2].partition("\n.Sh ")[0]
    for line in re.findall(r"(?m)^\.Dl (twdiag.*)$", examples):
        words = re.split(r"\s+[|>]", line)[0].split()[1:]
        parsed_by_typer(words)


def parsed_by_typer(words: list[str]) -> None:
    """Parse the words of a command, and raise what typer raises where they make no sense."""
    from twdiag.cli import application
    from twdiag.cli.typer_parts import parse

    parse(application(), words)
