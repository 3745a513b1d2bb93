"""What `check -vv` says of the processes behind a finding, and that a plain check does not look."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.running import Said
from twdiag import lab
from twdiag.errors import SourceRefused

if TYPE_CHECKING:
    from twdiag.lab import Stage

CAUSE = "all 3 workers wait for the upstream 127.0.0.1:5432 (postgres): nobody reads these sockets"
WORDS = {
    "plain": (),
    "-v": ("-v",),
    "-vv": ("-vv",),
    "checkmk": ("-vv", "--format", "checkmk"),
    "json": ("-vv", "--format", "json"),
    "prometheus": ("-vv", "--format", "prometheus"),
}
# Prints what was loaded of what looks closer, after the output.
RUN = """
import sys
from twdiag.cli import run
code = run(["check", "--limit", "close-wait-age=0", *sys.argv[1:]])
print("LOADED", *(name for name in sys.modules if name.endswith((".causes", ".live.waits"))))
sys.exit(code)
"""


def checked(_: Stage) -> dict[str, Said]:
    """Return what `check` says on a stage, with each of the words."""
    said = {}
    for name, words in WORDS.items():
        done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True)
        said[name] = Said(done.returncode, done.stdout, done.stderr)
    return said


@pytest.fixture(scope="module")
def said() -> dict[str, Said]:
    scenario = lab.find("stuck-on-upstream")
    assert scenario is not None
    play = lab.start(scenario, checked, settle=0.2)
    try:
        return play.result(timeout=60)
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    finally:
        play.close()


def test_it_explains_itself(said: dict[str, Said]) -> None:
    assert said["-vv"].code == 1
    assert f"\n  waits: {CAUSE}\n" in said["-vv"].out
    assert re.search(r"\n  now: py-spy dump --pid \d+\n", said["-vv"].out)
    assert CAUSE in said["checkmk"].out


@pytest.mark.parametrize("words", ["plain", "-v", "json", "prometheus"])
def test_it_does_not_look_closer_unasked(words: str, said: dict[str, Said]) -> None:
    assert said[words].code == 1
    assert said[words].out.endswith("LOADED\n")
    assert "py-spy" not in said[words].out


def test_the_verdict_is_the_same(said: dict[str, Said]) -> None:
    assert said["plain"].line == said["-v"].line == said["-vv"].line
