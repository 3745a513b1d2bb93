"""Completion: current, complete, and as it works at a TAB in the real shells."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from completions import grammar
from completions.grammar import Takes

from .shells import ROOT, Shell, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS: Final = ("bash", "zsh", "fish")
SCRIPTS: Final = {"bash": "twdiag.bash", "zsh": "_twdiag", "fish": "twdiag.fish"}


def script(shell: str) -> str:
    """Return the script in the folder."""
    return (ROOT / "completions" / SCRIPTS[shell]).read_text("utf-8")


def asked(instruction: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Return what twdiag writes with the variable of completion set."""
    return subprocess.run(
        [sys.executable, "-m", "twdiag"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"_TWDIAG_COMPLETE": instruction} | environ,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_current_and_what_the_program_writes(shell: str) -> None:
    done = asked(f"source_{shell}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == script(shell), "run completions/generate"


def test_the_generator_finds_the_scripts_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "completions" / "generate"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), "run completions/generate"


def test_an_unknown_instruction_is_refused() -> None:
    done = asked("source_ksh")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "source_bash" in done.stderr


def test_programs_that_complete_for_others_get_single_words() -> None:
    done = asked("complete_bash", COMP_WORDS="twdiag dia", COMP_CWORD="1")
    assert (done.returncode, done.stdout) == (0, "diagnose\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_finds_no_fault_with_its_script(shell: str) -> None:
    if missing(shell):
        pytest.skip(missing(shell))
    done = subprocess.run(
        [shell, "-n", str(ROOT / "completions" / SCRIPTS[shell])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_word_is_in_every_script(shell: str) -> None:
    text = script(shell)
    for command in grammar.read().walk():
        assert all(word in text for word in command.path)
        for option in command.options:
            for name in (*option.names, *option.off):
                spelled = name.lstrip("-") if shell == "fish" else name
                assert spelled in text, name
            if shell != "bash":
                words = option.help.replace("'", {"zsh": "'\\''", "fish": "\\'"}[shell])
                assert words in text.replace("\\:", ":"), option.help
    for kind in Takes:
        for word in grammar.words(kind):
            assert word.name in text


@pytest.fixture(scope="module", params=SHELLS)
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """Each shell, in a folder with one file."""
    why = missing(request.param)
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "settings.toml").touch()
    with Shell(request.param, folder) as running:
        yield running


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("diag", "diagnose"),
        ("diagnose --sel", "diagnose --select"),
        ("--js", "--json"),
        ("diagnose --select close-wait-l", "diagnose --select close-wait-leak"),
        ("diagnose --select=close-wait-l", "diagnose --select=close-wait-leak"),
        ("check --port 80 --ignore mis", "check --port 80 --ignore misleading-sysctl"),
        ("check --limit ports-w", "check --limit ports-warning="),
        ("check --limit=ports-w", "check --limit=ports-warning="),
        ("check -w time_wait_t", "check -w time_wait_table_ratio="),
        ("check --config sett", "check --config settings.toml"),
        ("check --state sett", "check --state settings.toml"),
        ("check --output=sett", "check --output=settings.toml"),
        ("check --print-config ic", "check --print-config icinga2"),
        ("check --notify", "check --notify-on"),
        ("explain last_", "explain LAST_ACK"),
        ("explain CLOSE_", "explain CLOSE_WAIT"),
        ("explain who-sh", "explain who-should-close"),
        ("explain old-segment-w", "explain old-segment-without-time-wait"),
        ("explain --no-p", "explain --no-pager"),
        ("lab r", "lab run"),
        ("he", "help"),
        ("help che", "help check"),
        ("lab run fd", "lab run fd-limit"),
        ("lab run idle --fu", "lab run idle --full"),
    ],
)
def test_tab_completes(shell: Shell, typed: str, line: str) -> None:
    words = shell.completed(f"twdiag {typed}")
    # zsh takes the "=" of NAME= away again when the line ends there.
    assert words in (line.split(), line.removesuffix("=").split())


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["diagnose", "check", "trace", "explain", "lab"]),
        ("lab ", ["list", "run"]),
        ("diagnose --", ["--interval", "--limit", "--select", "--json", "--help"]),
        ("check --format ", ["text", "json", "prometheus", "checkmk"]),
        ("diagnose --select ", ["ports-running-out", "misleading-sysctl"]),
        ("check -c ", ["close_wait_age", "fd_ratio"]),
        ("lab run ", ["close-wait-leak", "misleading-sysctl"]),
    ],
)
def test_tab_offers(shell: Shell, typed: str, offered: list[str]) -> None:
    shell.lists(f"twdiag {typed}", *offered)
