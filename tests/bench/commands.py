"""The processes that are measured, and which of them this machine does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_HERE: Final = Path(__file__).resolve().parent

_GROUP_BY: Final = """ss -tan | awk '
    NR > 1 { parts = split($4, local, ":"); count[$1 " " local[parts]]++ }
    END { for (key in count) print count[key], key }'"""

_PSUTIL: Final = """
import collections, psutil
rows = psutil.net_connections("tcp")
print(collections.Counter((row.status, row.laddr.port) for row in rows))
"""
_PYROUTE2: Final = """
import collections, socket
from pyroute2 import DiagSocket
count = collections.Counter()
with DiagSocket() as diag:
    diag.bind()
    for family in (socket.AF_INET, socket.AF_INET6):
        for row in diag.get_sock_stats(family=family):
            count[row["idiag_state"], row["idiag_sport"]] += 1
print(count)
"""
_MINIMAL: Final = """
import typer
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
@app.command()
def first(name: str = "x") -> None:
    "Do the first thing."
@app.command()
def second(name: str = "x") -> None:
    "Do the second thing."
app(prog_name="minimal")
"""


@dataclass(frozen=True)
class Command:
    """One process to measure.

    `accepts` are the exit codes of a run that counts; `answer` must be in what a first run prints;
    `largest` is the number of sockets up to which it ends in time.
    """

    name: str
    argv: tuple[str, ...]
    accepts: tuple[int, ...] = (0,)
    answer: str = ""
    largest: float = float("inf")
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def whole_environment(self) -> dict[str, str]:
        """The environment of the process: this one's, and this checkout's twdiag."""
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}

    def why_absent(self) -> str | None:
        """Run it once, which also warms caches; return why it cannot be measured, if so."""
        try:
            done = subprocess.run(
                self.argv,
                stdin=subprocess.DEVNULL,
                # `ss` writes 50 MB on a full host: only what is looked at is kept.
                stdout=subprocess.PIPE if self.answer else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self.whole_environment,
                text=True,
                errors="replace",
            )
        except OSError as error:
            return f"it does not start: {error.strerror}"
        if done.returncode not in self.accepts:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return f"exit {done.returncode}: {lines[0] if lines else 'it says nothing'}"
        if self.answer and self.answer not in done.stdout:
            return f"its output has no {self.answer!r}"
        return None


def _tool(name: str, *arguments: str) -> tuple[str, ...]:
    return (shutil.which(name) or name, *arguments)


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _twdiag(*arguments: str, accepts: tuple[int, ...] = (0,)) -> Command:
    name = " ".join(("twdiag", *arguments))
    return Command(name, _python("-m", "twdiag", *arguments), accepts)


FLOOR: Final = Command("kernel floor", _python("-I", "-S", str(_HERE / "floor.py")))
SS: Final = Command("ss -tan", _tool("ss", "-tan"))
SS_OWNERS: Final = Command("ss -tanp", _tool("ss", "-tanp"))
SS_AWK: Final = Command("ss -tan | awk", _tool("sh", "-c", _GROUP_BY), answer="LISTEN")
# Whatever the state of the host, a check that could look says so by 0, 1 or 2.
CHECK: Final = _twdiag("check", accepts=(0, 1, 2))
# What other namespaces this machine has is not what is compared here: see namespaces.py.
DIAGNOSE_JSON: Final = _twdiag("diagnose", "--this-netns", "--json")
DIAGNOSE: Final = _twdiag("diagnose", "--this-netns")
PSUTIL: Final = Command("psutil", _python("-c", _PSUTIL), largest=300_000)
PYROUTE2: Final = Command("pyroute2", _python("-c", _PYROUTE2), largest=100_000)

HOST_COMMANDS: Final = (
    FLOOR,
    SS,
    SS_OWNERS,
    SS_AWK,
    CHECK,
    DIAGNOSE_JSON,
    DIAGNOSE,
    PSUTIL,
    PYROUTE2,
)
"""What is run on hosts full of sockets."""

IMPORT_TYPER: Final = Command("import typer", _python("-c", "import typer"))
MINIMAL_HELP: Final = Command("minimal --help", _python("-c", _MINIMAL, "--help"), answer="second")
MINIMAL_TAB: Final = Command(
    "minimal TAB",
    _python("-c", _MINIMAL),
    answer="second",
    environment={
        "_MINIMAL_COMPLETE": "complete_bash",
        "COMP_WORDS": "minimal sec",
        "COMP_CWORD": "1",
    },
)
HELP: Final = Command("twdiag --help", _python("-m", "twdiag", "--help"), answer="diagnose")
TAB: Final = Command(
    "twdiag TAB",
    _python("-m", "twdiag"),
    answer="diagnose",
    environment={
        "_TWDIAG_COMPLETE": "complete_bash",
        "COMP_WORDS": "twdiag dia",
        "COMP_CWORD": "1",
    },
)

STARTUP_COMMANDS: Final = (IMPORT_TYPER, MINIMAL_HELP, MINIMAL_TAB, CHECK, HELP, TAB, DIAGNOSE)
"""What is run on an idle host."""
