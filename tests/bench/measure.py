"""Run commands in turn, round after round, and keep what each run took."""

from __future__ import annotations

import marshal
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .commands import Command

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end; seconds and bytes."""

    command: str
    round: int
    wall: float
    user: float
    system: float
    peak: int

    @property
    def cpu(self) -> float:
        """User and system time."""
        return self.user + self.system


@dataclass
class Setting:
    """The runs of all commands on one host, with what the host held meanwhile.

    `counts` is what was asked for, `alive` the fewest and most TIME_WAITs seen around the runs.
    """

    part: str
    name: str
    counts: dict[str, int]
    references: tuple[str, ...]
    alive: tuple[int, int] | None = None
    runs: list[Run] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def commands(self) -> list[str]:
        """Return the commands that ran, in the order of the first round."""
        return list(dict.fromkeys(run.command for run in self.runs))

    def bases(self) -> list[str]:
        """Return what the others are compared with: the first command where no reference ran."""
        ran = self.commands()
        return [name for name in self.references if name in ran] or ran[:1]

    def median(self, command: str, what: str) -> float:
        """Return the median of one figure (wall, cpu, peak) of a command."""
        values: list[float] = [getattr(r, what) for r in self.runs if r.command == command]
        return statistics.median(values)

    def ratios(self, command: str, reference: str) -> list[float]:
        """Return the wall times as multiples of a reference's in the same round."""
        base = {run.round: run.wall for run in self.runs if run.command == reference}
        mine = {run.round: run.wall for run in self.runs if run.command == command}
        return [wall / base[number] for number, wall in mine.items() if number in base]

    def ratio(self, command: str, reference: str) -> float | None:
        """Return the median of those ratios, None where the two never ran in the same round."""
        ratios = self.ratios(command, reference)
        return statistics.median(ratios) if ratios else None


class Launcher:
    """The small process that starts the measured ones."""

    def __enter__(self) -> Launcher:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that what it started ends with it, see __exit__
        )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def run(self, command: Command, number: int) -> Run | None:
        """Run a command in a round; None where it failed."""
        order: Any = ([*command.argv], command.whole_environment)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(marshal.dumps(order))
        self._process.stdin.flush()
        wall, user, system, peak, code = marshal.load(self._process.stdout)
        if code not in command.accepts:
            return None
        return Run(command.name, number, wall, user, system, peak)


def available(commands: Sequence[Command], rows: int, setting: Setting) -> list[Command]:
    """Return the commands that work here at this size; the others are noted with the reason."""
    able = []
    for command in commands:
        too_many = rows > command.largest
        why = f"not run above {command.largest:,.0f} sockets" if too_many else command.why_absent()
        if why is None:
            able.append(command)
        else:
            setting.absent[command.name] = why
    return able


def in_turn(commands: Sequence[Command], number: int) -> list[Command]:
    """Return the commands of a round: each round begins with another, so none is always first."""
    start = number % len(commands) if commands else 0
    return [*commands[start:], *commands[:start]]


def run_rounds(
    launcher: Launcher,
    commands: Sequence[Command],
    rounds: int,
    setting: Setting,
    say: Callable[[str], None],
) -> None:
    """Run the commands for so many rounds on a host that stays as it is."""
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for command in in_turn(commands, number):
            run = launcher.run(command, number)
            if run is not None:
                setting.runs.append(run)
            else:
                setting.absent[command.name] = f"it failed in round {number + 1}"
