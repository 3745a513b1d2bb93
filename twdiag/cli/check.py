"""`twdiag check`: one line and an exit code, for cron, Nagios and its kin, and Prometheus."""

# Not `from __future__ import annotations`: typer would have to compile each of them again, twice.

import enum
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from twdiag import __version__
from twdiag.cli.options import (
    AllNetnsOption,
    ConfigOption,
    IgnoreOption,
    LimitOption,
    PortOption,
    ProcessOption,
    SelectOption,
    Source,
    SourceOption,
)

if TYPE_CHECKING:
    from twdiag.check.verdict import Answer
    from twdiag.engine.examine import CheckOutcome, CheckRequest

EPILOG: Final = """\b
Examples:
  twdiag check                                one line for Nagios or Icinga
  twdiag check --state /var/lib/twdiag/state  judge growth between runs too
  twdiag check -w time_wait=20000 -c close_wait_age=3600
  twdiag check --quiet                        for cron: mail only when needed
  twdiag check --format prometheus --output twdiag.prom
  twdiag check --print-config icinga2         a snippet for this installation

\b
Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (it could not look, or the
command line makes no sense).  As plugins do, --help and --version end with 3.
Metrics count this network namespace, whatever --all-netns finds in others;
--port and --process choose among the findings.
"""


class AnswerFormat(str, enum.Enum):
    """The formats of an answer."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"
    CHECKMK = "checkmk"


class NotifyOn(str, enum.Enum):
    """When to say anything at all."""

    ALWAYS = "always"
    PROBLEM = "problem"
    CHANGE = "change"


class WarnOn(str, enum.Enum):
    """The least severity that makes a WARNING."""

    NOTICE = "notice"
    WARNING = "warning"


class SnippetName(str, enum.Enum):
    """The configurations that can be printed."""

    NAGIOS = "nagios"
    NRPE = "nrpe"
    ICINGA2 = "icinga2"
    CHECKMK = "checkmk"
    CRON = "cron"
    SYSTEMD_TIMER = "systemd-timer"
    NODE_EXPORTER = "node-exporter"
    PROMETHEUS_RULES = "prometheus-rules"


def _help(context: typer.Context, asked: bool) -> None:
    if asked:
        typer.echo(context.get_help())
        raise typer.Exit(3)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"twdiag {__version__}")
        raise typer.Exit(3)


def check(
    warning: Annotated[
        list[str] | None,
        typer.Option(
            "--warning",
            "-w",
            metavar="METRIC=RANGE",
            help="WARNING where METRIC is outside RANGE (repeatable).",
        ),
    ] = None,
    critical: Annotated[
        list[str] | None,
        typer.Option(
            "--critical",
            "-c",
            metavar="METRIC=RANGE",
            help="CRITICAL where METRIC is outside RANGE (repeatable).",
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="FILE", help="Remember this run in FILE and compare with the last."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on OK.")] = False,
    notify_on: Annotated[
        NotifyOn | None,
        typer.Option(
            "--notify-on", help="Say something always, on a problem or on a change (needs --state)."
        ),
    ] = None,
    again_after: Annotated[
        str | None,
        typer.Option(
            "--again-after",
            metavar="TIME",
            help="With --notify-on change, repeat a lasting problem after 4h, 30m or 1d.",
        ),
    ] = None,
    format: Annotated[
        AnswerFormat, typer.Option("--format", help="Write in this format.")
    ] = AnswerFormat.TEXT,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", help="Write to FILE, which is replaced as a whole."
        ),
    ] = None,
    port: PortOption = None,
    process: ProcessOption = None,
    all_netns: AllNetnsOption = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    limit: LimitOption = None,
    config: ConfigOption = None,
    warn_on: Annotated[
        WarnOn, typer.Option("--warn-on", help="Make findings of this severity or worse a WARNING.")
    ] = WarnOn.WARNING,
    exit_zero: Annotated[
        bool,
        typer.Option("--exit-zero", help="Exit 0 on WARNING and CRITICAL too, not on UNKNOWN."),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            "-t",
            metavar="S",
            min=0.1,
            max=3600,
            help="Give up with UNKNOWN after S seconds.",
        ),
    ] = 10.0,
    source: SourceOption = Source.AUTO,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Add the findings; -vv adds causes and advice too.",
        ),
    ] = 0,
    list_metrics: Annotated[
        bool, typer.Option("--list-metrics", help="List the metrics for --warning and --critical.")
    ] = False,
    show_limits: Annotated[
        bool,
        typer.Option("--show-limits", help="Show the limits in force and where they come from."),
    ] = False,
    print_config: Annotated[
        SnippetName | None,
        typer.Option(
            "--print-config",
            metavar="CONFIG",
            help=f"Print a configuration to copy: {', '.join(name.value for name in SnippetName)}.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            help="Show the version and exit.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
    help: Annotated[
        bool,
        typer.Option(
            "--help", "-h", help="Show this message and exit.", callback=_help, is_eager=True
        ),
    ] = False,
) -> None:
    """Check this host: one status line, perfdata and an exit code."""
    from twdiag.engine.examine import CheckRequest
    from twdiag.errors import refuse_both

    if notify_on is not None and notify_on is not NotifyOn.PROBLEM:  # which --quiet means
        refuse_both({"--quiet": quiet, f"--notify-on {notify_on.value}": True})

    request = CheckRequest(
        source=source.value,
        format=format.value,
        output=output,
        verbosity=verbose,
        timeout=timeout,
        config=config,
        state=state,
        notify_on=notify_on.value if notify_on else "problem" if quiet else "always",
        warn_on=warn_on.value,
        exit_zero=exit_zero,
        warning=tuple(warning or ()),
        critical=tuple(critical or ()),
        limits=tuple(limit or ()),
        select=tuple(select or ()),
        ignore=tuple(ignore or ()),
        ports=tuple(port or ()),
        processes=tuple(process or ()),
        again_after=again_after,
        all_netns=all_netns,
    )
    asked = {
        "--list-metrics": list_metrics,
        "--show-limits": show_limits,
        "--print-config": print_config,
    }
    if any(asked.values()):
        from twdiag.cli.listing import refuse_unheeded

        refuse_both(asked)
        refuse_unheeded(next(name for name, value in asked.items() if value), request)
        _inform(request, list_metrics, print_config)
        return
    raise typer.Exit(run(request))


def _inform(request: "CheckRequest", list_metrics: bool, print_config: SnippetName | None) -> None:
    """Print what was asked for instead of a check."""
    if print_config is not None:
        from twdiag.cli.snippets import snippet

        typer.echo(snippet(print_config.value), nl=False)
        return
    from twdiag.cli import listing
    from twdiag.engine.examine import plan

    planned = plan(request)
    if list_metrics:
        listing.list_metrics(planned, sys.stdout)
    else:
        listing.show_limits(planned, sys.stdout)


def run(request: "CheckRequest") -> int:
    """Check, speak, and return the exit code."""
    from twdiag.check.verdict import unknown
    from twdiag.cli import terminal
    from twdiag.engine.examine import CheckOutcome, examine
    from twdiag.errors import UsageError
    from twdiag.history.deadline import Deadline, TimeIsUp

    if not request.timeout > 0:  # nan too
        raise UsageError("--timeout needs a number of seconds above 0", "for example --timeout 10")
    if request.state and request.output and _are_one_file(request.state, request.output):
        # Not an answer as others are: it would be written over the state.
        raise UsageError(f"--state and --output both name {request.state}", "name two files")
    begin = time.monotonic()
    terminal.make_output_safe()
    limit = f"no answer within {request.timeout:g} s"
    deadline = Deadline(request.timeout, f"TWDIAG UNKNOWN - {limit}\n")
    try:
        try:
            deadline.start()
            outcome = examine(request, deadline)
            deadline.stop()
        except TimeIsUp:  # between two steps that tell it themselves
            outcome = CheckOutcome(unknown(limit, source=request.source))
        answer = _speak(request, outcome, time.monotonic() - begin)
        sys.stdout.flush()
    finally:
        deadline.end()
    return 0 if request.exit_zero and answer.status < 3 else int(answer.status)


def _are_one_file(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _speak(request: "CheckRequest", outcome: "CheckOutcome", seconds: float) -> "Answer":
    """Write the answer to stdout or to the file asked for; return it as it came out."""
    from twdiag.engine.examine import has_to_speak, write_output
    from twdiag.render.answer import written

    answer = outcome.answer
    quiet = request.output is None and not has_to_speak(request, outcome)
    text = (
        ""
        if quiet
        else written(
            answer,
            request.format,
            mail=request.notify_on != "always",
            verbosity=request.verbosity,
            seconds=seconds,
        )
    )
    if request.output is None:
        sys.stdout.write(text)
        return answer
    refusal = write_output(request.output, text)
    if refusal is not None:
        answer = refusal
    if answer.report is None:
        from twdiag.render.nagios import render_nagios

        render_nagios(answer, sys.stdout)
    return answer
