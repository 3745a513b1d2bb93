"""`twdiag lab`: make a problem with real sockets in a private namespace, and diagnose it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from twdiag.cli.options import AsciiOption, BriefOption, Color, ColorOption, FullOption, JsonOption

if TYPE_CHECKING:
    from twdiag.lab import Scenario

_EPILOG: Final = """\b
Examples:
  twdiag lab list
  twdiag lab run close-wait-leak
  twdiag lab run ports-running-out --json
"""

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    epilog=_EPILOG,
    help="Make each problem with real sockets in a private namespace.",
)


@app.command("list", rich_help_panel=None)
def list_scenarios() -> None:
    """List the scenarios and what each of them should show."""
    from twdiag.lab import SCENARIOS

    width = max(len(scenario.name) for scenario in SCENARIOS)
    for scenario in SCENARIOS:
        typer.echo(f"{scenario.name:{width}}  {scenario.summary}")


@app.command("run", epilog=_EPILOG)
def run_scenario(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="A name of `twdiag lab list`.")
    ],
    json: JsonOption = False,
    brief: BriefOption = False,
    full: FullOption = False,
    ascii: AsciiOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Run a scenario and diagnose it.

    Its sockets are real, but in a private namespace: nothing on this host changes.
    """
    from twdiag.cli import terminal
    from twdiag.engine.reproduce import chosen_scenario, observe
    from twdiag.errors import refuse_both
    from twdiag.lab import play

    terminal.make_output_safe()
    refuse_both({"--json": json, "--brief": brief}, "leave out --brief: JSON has everything")
    detail = terminal.detail_of(brief, full)
    chosen = chosen_scenario(scenario)
    if sys.stderr.isatty():
        _announce(chosen)
    report = play(chosen, partial(observe, chosen))
    if json:
        from twdiag.render.json import render_json

        render_json(report, sys.stdout)
        return
    from twdiag.render.pieces import write_lines
    from twdiag.render.text import render_text

    look = terminal.look_of(sys.stdout, color.value, detail, ascii=ascii)
    if not brief:
        write_lines(_story(chosen, look.width), sys.stdout, look)
    render_text(report, sys.stdout, look)


def _announce(scenario: Scenario) -> None:
    wait = f", {scenario.settle:.0f} s for its sockets to age" if scenario.settle >= 1 else ""
    wait += f", watched for {scenario.interval:.0f} s" if scenario.interval else ""
    print(f"Making real sockets in a private network namespace{wait} ...", file=sys.stderr)


def _story(scenario: Scenario, width: int | None) -> list[tuple[str, str]]:
    import textwrap

    text = " ".join(scenario.teaches.split())
    if scenario.limits:
        limits = ", ".join(f"{name}={value:g}" for name, value in scenario.limits.items())
        text += f"  For the lab the limits are lower: {limits}."
    lines = textwrap.wrap(text, width, break_on_hyphens=False) if width else [text]
    return [(f"Scenario {scenario.name}", "bold"), *((line, "") for line in lines), ("", "")]
