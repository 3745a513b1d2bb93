"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .closer import CLOSER, FILES
from .commands import (
    CHECK,
    DIAGNOSE,
    HELP,
    IMPORT_TYPER,
    MINIMAL_HELP,
    MINIMAL_TAB,
    SS,
    SS_OWNERS,
    TAB,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .measure import Setting

SCHEMA: Final = "twdiag-bench/1"


@dataclass(frozen=True)
class Goal:
    """A command is to take at most so many times what another takes, in a part of the benchmark."""

    part: str
    command: str
    reference: str
    most: float
    rows: int = 0


GOALS: Final = (
    Goal("scale", CHECK.name, SS.name, 1.0, 600_000),
    Goal("scale", DIAGNOSE.name, CHECK.name, 1.3, 100_000),
    Goal("held", CHECK.name, SS_OWNERS.name, 1.0),
    Goal("owners", CHECK.name, SS_OWNERS.name, 1.0),
    Goal("waits", CLOSER, FILES, 2.5),
    Goal("startup", CHECK.name, IMPORT_TYPER.name, 1.6),
    Goal("startup", HELP.name, MINIMAL_HELP.name, 1.15),
    Goal("startup", TAB.name, MINIMAL_TAB.name, 1.15),
)
"""What the tool is built to hold; with fewer TIME_WAITs the start of Python decides."""

MOST_PEAK: Final = 120_000_000
"""Bytes that a check may take, whatever the host holds."""


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    ss = shutil.which("ss")
    version = subprocess.run([ss, "-V"], capture_output=True, text=True).stdout if ss else ""
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "ss": version.strip() or None,
    }


def describe_machine() -> str:
    """Return the machine in one line."""
    facts = machine()
    version = ".".join(facts["kernel"].split(".")[:2])  # what follows names a build
    return (
        f"{facts['cores']} cores, Linux {version} {facts['architecture']}, "
        f"Python {facts['python']}, {facts['ss'] or 'no ss on this machine'}"
    )


def table(setting: Setting) -> str:
    """Return a setting as a table: ratios first, then what they come from."""
    references = setting.bases()
    heads = [f"x {name}" for name in references]
    head = ["", *heads, "lowest-highest", "wall", "cpu", "peak"]
    lines = [head, *(_line(setting, command, references) for command in setting.commands())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [title(setting)]
    for line in lines:
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        text.append("  " + "  ".join([line[0].ljust(len(first)), *rest]).rstrip())
    text += [f"  {name}: not measured, {why}" for name, why in setting.absent.items()]
    return "\n".join([*text, *goals(setting)])


def title(setting: Setting) -> str:
    """Return what a setting is, in one line."""
    rounds = max((run.round for run in setting.runs), default=-1) + 1
    what = ", ".join(f"{count:,} {name}" for name, count in setting.counts.items()) or "no sockets"
    alive = ""
    if setting.alive is not None and setting.alive[1]:
        alive = f" ({setting.alive[0]:,}-{setting.alive[1]:,} alive meanwhile)"
    return f"{setting.name}: {what}{alive}, medians of {rounds} rounds"


def _line(setting: Setting, command: str, references: Sequence[str]) -> list[str]:
    ratios = [setting.ratio(command, reference) for reference in references]
    first = setting.ratios(command, references[0]) if references else []
    return [
        command,
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        f"{min(first):.2f}-{max(first):.2f}" if first else "",
        f"{setting.median(command, 'wall') * 1000:,.0f} ms",
        f"{setting.median(command, 'cpu') * 1000:,.0f} ms",
        f"{setting.median(command, 'peak') / 1e6:,.0f} MB",
    ]


def goals(setting: Setting) -> Iterator[str]:
    """Yield a line for each goal of a setting that was measured."""
    for goal in GOALS:
        if goal.part != setting.part or setting.counts.get("TIME_WAIT", 0) < goal.rows:
            continue
        ratio = setting.ratio(goal.command, goal.reference)
        if ratio is not None:
            held = "held" if ratio <= goal.most else "MISSED"
            yield f"  goal {held}: {goal.command} <= {goal.most} x {goal.reference}: {ratio:.2f}"
    if CHECK.name in setting.commands():
        peak = setting.median(CHECK.name, "peak")
        held = "held" if peak <= MOST_PEAK else "MISSED"
        yield f"  goal {held}: {CHECK.name} <= {MOST_PEAK / 1e6:.0f} MB: {peak / 1e6:.0f}"


def as_json(settings: Sequence[Setting]) -> dict[str, Any]:
    """Return everything that was measured, raw values and medians."""
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "settings": [_setting_as_json(setting) for setting in settings],
    }


def _setting_as_json(setting: Setting) -> dict[str, Any]:
    return {
        "part": setting.part,
        "name": setting.name,
        "counts": setting.counts,
        "alive": setting.alive,
        "absent": setting.absent,
        "medians": {
            command: {
                "ratios": {name: setting.ratio(command, name) for name in setting.bases()},
                "wall": setting.median(command, "wall"),
                "cpu": setting.median(command, "cpu"),
                "peak": setting.median(command, "peak"),
            }
            for command in setting.commands()
        },
        "runs": [
            {
                "command": run.command,
                "round": run.round,
                "wall": run.wall,
                "user": run.user,
                "system": run.system,
                "peak": run.peak,
            }
            for run in setting.runs
        ],
    }
