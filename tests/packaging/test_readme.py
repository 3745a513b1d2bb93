"""The README: every command in it works, and its tables have all there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from completions import grammar
from twdiag.rules import RULES
from twdiag.tcp import LONGEST_TIME_WAIT_SECONDS

from .shells import ROOT

if TYPE_CHECKING:
    from pathlib import Path

README: Final = (ROOT / "README.md").read_text("utf-8")
NEED_AN_INDEX: Final = re.compile(r"pip install|pipx|uv tool|build-single-file|bin/activate")
"""These are run by .ci/run and by the tests marked `network`."""
WAITS: Final = re.compile("--interval|trace|lab run")
"""These are started first: they take seconds of waiting, which the others use."""
FOLDERS: Final = ("man", "completions", "twdiag")
SCRIPT: Final = re.compile(r"\b(man|completions)/\w")
ROOMS: Final = r"(?m)^\| (\d+) \| `([a-z]+)/` \|"
CONTRIBUTING: Final = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def marked(name: str) -> str:
    """Return the command behind a mark such as `<!-- first command -->`."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.+?)\n```", README)
    assert found is not None
    return found[1]


def commands() -> list[str]:
    """Return every line of every block of shell commands."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", README)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Every command that needs no package index, all at the same time, each in its own folder."""
    bin_folder = tmp_path_factory.mktemp("bin")
    _make_command(bin_folder / "twdiag", f'exec "{sys.executable}" -m twdiag "$@"')
    if shutil.which("jq") is None:
        code = "import json, sys; print(json.load(sys.stdin)['status'])"
        _make_command(bin_folder / "jq", f'exec "{sys.executable}" -c "{code}"')
    _make_command(bin_folder / "python3", f'exec "{sys.executable}" "$@"')

    def run(command: str) -> Ran:
        folder = tmp_path_factory.mktemp("run")
        for name in FOLDERS:
            # Scripts that write beside themselves do so in a copy, which has to be compiled anew.
            if SCRIPT.search(command):
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                (folder / name).symlink_to(ROOT / name)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONUTF8": "1"},
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    chosen = [command for command in commands() if not NEED_AN_INDEX.search(command)]
    chosen.sort(key=lambda command: not WAITS.search(command))
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(chosen, pool.map(run, chosen), strict=True))


def _make_command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("command", [c for c in commands() if not NEED_AN_INDEX.search(c)])
def test_each_command_works(command: str, ran: dict[str, Ran]) -> None:
    done = ran[command]
    if "namespace" in done.err:
        pytest.skip(done.err)
    words = command.split()
    # A check tells the state of the host that runs the tests, whatever that is.
    states = (0, 1, 2) if "check" in words and "--exit-zero" not in words else (0,)
    assert done.code in states, done
    assert "Traceback" not in done.err


def test_the_commands_show_what_the_readme_says(ran: dict[str, Ran]) -> None:
    said = {" ".join(command.partition("#")[0].split()): done.out for command, done in ran.items()}
    assert re.match(r"(OK|NOTICE|WARNING|CRITICAL)  \S", said["twdiag"])
    assert len(said["twdiag lab list"].splitlines()) == int(
        re.search(r"# (\d+) problems", README)[1]  # type: ignore[index]
    )
    assert said["twdiag --json | jq -r .status"].strip() in ("ok", "notice", "warning", "critical")
    assert "OnCalendar" in said["twdiag check --print-config systemd-timer"]


def test_the_marked_commands_are_there() -> None:
    assert marked("first command").endswith("/twdiag")
    assert marked("test command").endswith("-m pytest")


def test_the_commands_are_found_once_the_environment_is_active(tmp_path: Path) -> None:
    """What `venv` makes finds what stands in its bin, and `man` the pages in its share/man."""
    made = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / ".venv")]
    subprocess.run(made, check=True, timeout=60)
    _make_command(tmp_path / ".venv" / "bin" / "twdiag", "echo found")
    pages = tmp_path / ".venv" / "share" / "man" / "man1"
    pages.mkdir(parents=True)
    shutil.copy(ROOT / "man" / "twdiag.1", pages)
    find = "twdiag" + ("; man --where twdiag" if shutil.which("man") else f"; echo {pages}")
    done = subprocess.run(
        ["bash", "-c", f"{marked('activate')}; {find}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin"},
    )
    found, page = done.stdout.splitlines()
    assert found == "found"
    assert page.startswith(str(pages))


def test_the_verbs_of_the_checks_are_there() -> None:
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    verbs = set(re.findall(r"(?m)^    ([a-z]+)\)", text)) - {"all"}
    named = set(re.findall(r"\.ci/run ([a-z]+)", CONTRIBUTING))
    assert named == verbs == {"test", "lint", "docs", "bench"}
    done = subprocess.run(
        [ROOT / ".ci" / "run", "nonsense"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert all(f".ci/run {verb}" in done.stderr for verb in verbs)


def test_the_map_has_every_room() -> None:
    from tests.test_architecture import FLOORS

    rooms = {room: int(floor) for floor, room in re.findall(ROOMS, CONTRIBUTING)}
    there = {path.parent.name for path in (ROOT / "twdiag").glob("*/__init__.py")}
    assert rooms == {room: FLOORS[room] for room in there}


def test_the_table_of_rules_is_complete() -> None:
    named = re.findall(r"(?m)^\| `([a-z0-9-]+)` \|", README)
    assert [name for name in named if name != "ss"][: len(RULES)] == [rule.name for rule in RULES]


def test_time_wait_is_not_said_to_be_exact() -> None:
    assert f"60 seconds (up to {LONGEST_TIME_WAIT_SECONDS} until" in README
    assert "exactly 60" not in README


def test_every_option_that_is_named_exists() -> None:
    known = {
        name
        for command in grammar.read().walk()
        for option in command.options
        for name in (*option.names, *option.off)
    }
    foreign = {"--quiet"}  # pip's
    for command in commands():
        if command.startswith("twdiag"):
            named = set(re.findall(r"(?<!\S)--[a-z-]+", command.partition("#")[0]))
            assert sorted(named - known - foreign) == []


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", README + CONTRIBUTING):
        assert (ROOT / name).exists(), name


def test_the_picture_is_a_report_of_today_and_fetches_nothing() -> None:
    picture = (ROOT / "man" / "report.svg").read_text("utf-8")
    root = xml.etree.ElementTree.fromstring(picture)
    text = "".join(root.itertext()).replace("\xa0", " ")
    for part in ("close-wait-leak", "fd-limit-near", "now", "py-spy dump", "States"):
        assert part in text
    assert set(re.findall(r"(?:pid |/proc/)(\d+)", text)) == {"812"}
    assert not re.search(r"url\((?!#)|<image|@import", picture)
