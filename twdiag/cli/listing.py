"""The tables of `check --list-metrics` and `check --show-limits`, plain and one row a line.

And which options what is printed instead of a check does not heed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.check.metrics import METRICS
from twdiag.check.thresholds import default_ranges
from twdiag.errors import refuse_both
from twdiag.rules import LIMITS
from twdiag.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from twdiag.engine.examine import CheckRequest, Plan


def refuse_unheeded(printed: str, request: CheckRequest) -> None:
    """Raise UsageError for an option that what is printed would not heed."""
    refuse_both({printed: True, "--output": request.output}, "redirect it with the shell instead")
    if request.format != "text":
        format = f"--format {request.format}"
        refuse_both({printed: True, format: True}, f"leave out --format: {printed} writes text")
    if printed == "--print-config":
        for name, value in (
            ("--state", request.state),
            ("--warning", request.warning),
            ("--critical", request.critical),
            ("--select", request.select),
            ("--ignore", request.ignore),
            ("--limit", request.limits),
            ("--port", request.ports),
            ("--process", request.processes),
            ("--all-netns", request.all_netns),
        ):
            step = f"add {name} to the command in what it prints"
            refuse_both({printed: True, name: value}, step)


def list_metrics(planned: Plan, out: TextIO) -> None:
    """Write every metric with its unit, the ranges that apply anyway, and its meaning."""
    warning, critical = default_ranges(planned.settings.limits)
    rows = [
        (
            metric.name,
            {"c": "count", "": "number"}.get(metric.unit, metric.unit),
            str(warning.get(metric.name, "-")),
            str(critical.get(metric.name, "-")),
            metric.meaning + ("; needs --state" if metric.compares else ""),
        )
        for metric in METRICS
    ]
    _table(("METRIC", "UNIT", "WARNING", "CRITICAL", "MEANING"), rows, out)
    out.write(
        "\nWARNING and CRITICAL are what the limits of the rules amount to (--show-limits);\n"
        "-w and -c add your own ranges.  % may be written: -w ports_used_ratio=80%\n"
    )


def show_limits(planned: Plan, out: TextIO) -> None:
    """Write every limit and range in force and where it comes from, and what files were read."""
    limits = planned.settings.limits
    rows = [
        (limit.name, f"{limits[limit]:g}", limit.unit, limits.origin(limit.name))
        for limit in LIMITS
    ]
    _table(("LIMIT", "VALUE", "UNIT", "FROM"), rows, out)
    ranges = [
        (f"{level} {name}", str(found), "range", _origin(planned, level, name))
        for level, asked in zip(("warning", "critical"), planned.ranges, strict=True)
        for name, found in asked.items()
    ]
    if ranges:
        out.write("\n")
        _table(("METRIC", "VALUE", "UNIT", "FROM"), ranges, out)
    out.write("\n")
    _table(("FILE", "STATE"), planned.settings.files, out)


def _origin(planned: Plan, level: str, name: str) -> str:
    settings = planned.settings
    before = settings.warning if level == "warning" else settings.critical
    asked = planned.ranges.warning if level == "warning" else planned.ranges.critical
    if before.get(name) is asked[name]:
        return settings.origins[level, name]
    return f"--{level}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO) -> None:
    lines = [head, *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    for line in lines:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        out.write("  ".join(cells).rstrip() + "\n")
