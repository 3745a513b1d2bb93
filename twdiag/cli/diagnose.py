"""`twdiag diagnose`: the report."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from twdiag.cli.options import (
    AllNetnsOption,
    AsciiOption,
    BriefOption,
    Color,
    ColorOption,
    ConfigOption,
    FullOption,
    IgnoreOption,
    IntervalOption,
    JsonOption,
    LimitOption,
    NetnsOption,
    PortOption,
    ProcessOption,
    SelectOption,
    Source,
    SourceOption,
    ThisNetnsOption,
)

if TYPE_CHECKING:
    from twdiag.engine.diagnose import DiagnoseRequest

EPILOG: Final = """\b
Examples:
  twdiag diagnose                        the report
  twdiag diagnose --brief                one line per finding
  twdiag diagnose --interval 10          two samples: what grows, overflows
  twdiag diagnose --port 8080 --full     everything about one port
  twdiag diagnose --netns web_1          one container alone
  twdiag diagnose --json | jq '.findings[].rule'

\b
Exit status: 0 if it could look (whatever it found), 3 if it could not.
For exit codes that tell the state, use `twdiag check`.
"""


class ReportFormat(str, enum.Enum):
    """The formats of a report."""

    TEXT = "text"
    JSON = "json"
    NAGIOS = "nagios"
    PROMETHEUS = "prometheus"


def diagnose(
    port: PortOption = None,
    process: ProcessOption = None,
    netns: NetnsOption = None,
    all_netns: AllNetnsOption = False,
    this_netns: ThisNetnsOption = False,
    interval: IntervalOption = 0.0,
    json: JsonOption = False,
    format: Annotated[
        ReportFormat, typer.Option("--format", help="Write in this format.")
    ] = ReportFormat.TEXT,
    brief: BriefOption = False,
    full: FullOption = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    limit: LimitOption = None,
    config: ConfigOption = None,
    source: SourceOption = Source.AUTO,
    ascii: AsciiOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Report what the closing side of TCP does to this host."""
    from twdiag.engine.diagnose import DiagnoseRequest

    chosen = _format(json, format, brief=brief, full=full)
    request = DiagnoseRequest(
        ports=tuple(port or ()),
        processes=tuple(process or ()),
        select=tuple(select or ()),
        ignore=tuple(ignore or ()),
        limits=tuple(limit or ()),
        config=config,
        source=source.value,
        interval=interval,
        netns=netns,
        all_netns=all_netns,
        this_netns=this_netns,
    )
    if chosen in ("nagios", "prometheus"):
        _answer(request, chosen, 0 if brief else 2 if full else 1)
    run(request, chosen, (brief, full), color.value, ascii=ascii)


def _format(json: bool, format: ReportFormat, *, brief: bool, full: bool) -> str:
    """Return the format to write; raises UsageError where two words ask for different ones."""
    from twdiag.errors import refuse_both

    wanted = format.value
    if wanted not in ("text", "json"):
        refuse_both({"--json": json, f"--format {wanted}": True})
    refuse_both({"--brief": brief, "--full": full})
    chosen = "json" if json else wanted
    name = "--json" if json else f"--format {wanted}"
    if chosen == "json":  # it has everything, as --full says
        refuse_both({name: True, "--brief": brief}, "leave out --brief: JSON has everything")
    if chosen == "prometheus":
        step = "leave it out: each finding is one sample"
        refuse_both({name: True, "--brief": brief}, step)
        refuse_both({name: True, "--full": full}, step)
    return chosen


def run(
    request: DiagnoseRequest,
    format: str = "text",
    detail: tuple[bool, bool] = (False, False),
    color: str = "auto",
    *,
    ascii: bool = False,
) -> None:
    """Look and write the report to stdout; `detail` is (--brief, --full)."""
    from twdiag.cli import streams, terminal
    from twdiag.engine.diagnose import diagnose
    from twdiag.wording import visible

    terminal.make_output_safe()
    how_much = terminal.detail_of(*detail)
    waiting = f"waiting {request.interval:g} s for the second sample"
    with terminal.patience(waiting if request.interval else "reading the socket table"):
        report, notes = diagnose(request)
    for note in notes:
        streams.say(f"twdiag: {visible(note)}")
    if format == "json":
        from twdiag.render.json import render_json

        render_json(report, sys.stdout)
        return
    from twdiag.render.text import render_text

    render_text(report, sys.stdout, terminal.look_of(sys.stdout, color, how_much, ascii=ascii))


def _answer(request: DiagnoseRequest, format: str, verbosity: int) -> NoReturn:
    """Write what `check` would say; exit 0 if it could look, as this command does."""
    from twdiag.cli import check
    from twdiag.engine.diagnose import as_check

    raise typer.Exit(check.run(as_check(request, format, verbosity)))
