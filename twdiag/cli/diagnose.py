"""`twdiag diagnose`: the report."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Final, NoReturn

import typer

from twdiag.cli.options import (
    BriefOption,
    Color,
    ColorOption,
    ConfigOption,
    FullOption,
    IgnoreOption,
    IntervalOption,
    JsonOption,
    LimitOption,
    PortOption,
    ProcessOption,
    SelectOption,
    Source,
    SourceOption,
)

EPILOG: Final = """\b
Examples:
  twdiag diagnose                        the report
  twdiag diagnose --brief                one line per finding
  twdiag diagnose --interval 10          two samples: what grows, overflows
  twdiag diagnose --port 8080 --full     everything about one port
  twdiag diagnose --json | jq '.findings[].rule'

\b
Exit status: 0 if it could look (whatever it found), 3 if it could not.
`twdiag check` has exit codes that tell the state.
"""


class Format(str, enum.Enum):
    """The formats of a report."""

    TEXT = "text"
    JSON = "json"
    NAGIOS = "nagios"
    PROMETHEUS = "prometheus"


@dataclass(frozen=True)
class Request:
    """What the user asked for, as `diagnose` needs it."""

    source: str = "auto"
    format: str = "text"
    detail: tuple[bool, bool] = (False, False)
    color: str = "auto"
    interval: float = 0.0
    ports: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    config: str | None = None


def diagnose(
    port: PortOption = None,
    process: ProcessOption = None,
    interval: IntervalOption = 0.0,
    json: JsonOption = False,
    format: Annotated[Format, typer.Option("--format", help="Write in this format.")] = Format.TEXT,
    brief: BriefOption = False,
    full: FullOption = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    limit: LimitOption = None,
    config: ConfigOption = None,
    source: SourceOption = Source.AUTO,
    color: ColorOption = Color.AUTO,
) -> None:
    """Report what the closing side of TCP does to this host."""
    run(
        Request(
            source.value,
            "json" if json else format.value,
            (brief, full),
            color.value,
            interval,
            tuple(port or ()),
            tuple(process or ()),
            tuple(select or ()),
            tuple(ignore or ()),
            tuple(limit or ()),
            config,
        )
    )


def run(request: Request) -> None:
    """Look and write the report to stdout."""
    if request.format in ("nagios", "prometheus"):
        _answer(request)
    from twdiag import rules
    from twdiag.cli import terminal
    from twdiag.engine.look import Question, look
    from twdiag.errors import UsageError
    from twdiag.settings import config
    from twdiag.sources.live.netns import other_namespaces

    if not request.interval >= 0:
        raise UsageError("--interval needs a number of seconds", "for example --interval 10")
    terminal.make_output_safe()
    detail = terminal.detail_of(*request.detail)
    limits = config.load(request.config, request.limits).limits
    if request.ports:  # whoever names a port wants to know of every left-over socket
        limits = limits.replaced({"restart-blocked": 1}, "--port")
    question = Question(
        request.source,
        limits,
        rules.choose(request.select, request.ignore),
        request.interval,
        request.ports,
        request.processes,
    )
    waiting = f"waiting {request.interval:g} s for the second sample"
    with terminal.patience(waiting if request.interval else "reading the socket table"):
        report = look(question)
    report = replace(report, gaps=(*report.gaps, *other_namespaces()))
    if request.format == "json":
        from twdiag.render.json import render_json

        render_json(report, sys.stdout)
        return
    from twdiag.render.text import render_text

    render_text(report, sys.stdout, terminal.look_of(sys.stdout, request.color, detail))


def _answer(request: Request) -> NoReturn:
    """Write what `check` would say; exit 0 if it could look, as this command does."""
    from twdiag.cli import check
    from twdiag.engine.examine import Request as CheckRequest
    from twdiag.errors import UsageError

    if request.interval:
        raise UsageError(
            f"--interval goes with the formats text and json, not {request.format}",
            "to compare two runs: twdiag check --state FILE",
        )
    brief, full = request.detail
    raise typer.Exit(
        check.run(
            CheckRequest(
                source=request.source,
                format="text" if request.format == "nagios" else request.format,
                verbosity=0 if brief else 2 if full else 1,
                timeout=60.0,
                config=request.config,
                exit_zero=True,
                limits=request.limits,
                select=request.select,
                ignore=request.ignore,
                ports=request.ports,
                processes=request.processes,
            )
        )
    )
