"""What twdiag says of the servers on a stage, run as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

from tests.running import SOURCE


class Said(NamedTuple):
    """A finding with what its processes do: the words, the certainty aside, and the commands."""

    rule: str
    pids: tuple[int, ...]
    waits: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def why(self) -> str:
        """The first sentence: the conclusion where there is one."""
        return self.waits[0] if self.waits else ""


def diagnose(*words: str) -> list[Said]:
    """Return what `twdiag diagnose --json` finds in this namespace."""
    # Isolated: a trial's own PYTHONPATH is for the program that is tried.
    start = f"import sys; sys.path.insert(0, {SOURCE!r}); from twdiag.cli import main; main()"
    command = [sys.executable, "-I", "-c", start, "diagnose", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [_said(finding) for finding in json.loads(done.stdout)["findings"]]


def _said(finding: dict[str, Any]) -> Said:
    commands = tuple(step["run"] for step in finding["steps"])
    return Said(finding["rule"], tuple(finding["pids"]), tuple(finding["waits"]), commands)
