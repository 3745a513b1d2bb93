"""The options that several commands share, each defined once."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Source(str, enum.Enum):
    """The readers of socket states."""

    AUTO = "auto"
    NETLINK = "netlink"
    PYROUTE2 = "pyroute2"
    PSUTIL = "psutil"
    PROC = "proc"


class Color(str, enum.Enum):
    """When to use colours."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def _named(words: list[str] | None) -> list[str] | None:
    """Return the processes asked for; raises UsageError for one without a name.

    That comes of a variable that is not set, and would hide every finding.
    """
    if words and "" in words:
        from twdiag.errors import UsageError

        raise UsageError("--process '' names no process", "give the name or the PID of one")
    return words


SourceOption = Annotated[
    Source,
    typer.Option("--source", help="Read sockets from this source; auto is netlink, else proc."),
]
ColorOption = Annotated[Color, typer.Option("--color", help="Use colours; auto is on a terminal.")]
SelectOption = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="RULE", help="Run only this rule (repeatable)."),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="RULE", help="Leave this rule out (repeatable)."),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="LIMIT=VALUE", help="Set one limit (repeatable)."),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Read settings from this TOML file too."),
]
PortOption = Annotated[
    list[int] | None,
    typer.Option(
        "--port",
        min=1,
        max=65535,
        metavar="N",
        help="Show only what concerns this port (repeatable).",
    ),
]
ProcessOption = Annotated[
    list[str] | None,
    typer.Option(
        "--process",
        metavar="NAME",
        callback=_named,
        help="Show only what concerns this process, a name or PID (repeatable).",
    ),
]
IntervalOption = Annotated[
    float,
    typer.Option(
        "--interval",
        min=0,
        max=3600,
        metavar="S",
        show_default=False,
        help="Compare with a second sample after S seconds, and watch what closes meanwhile.",
    ),
]
ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="End after this time, such as 30s, 5m or 1h."),
]
NetnsOption = Annotated[
    str | None,
    typer.Option(
        "--netns",
        metavar="NETNS",
        help="Look in this network namespace: a name, a path, a PID or a container.",
    ),
]
NetnsesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--netns",
        metavar="NETNS",
        help="Look in this network namespace: a name, a path, a PID or a container.",
    ),
]
AllNetnsOption = Annotated[
    bool,
    typer.Option("--all-netns", help="Look in every network namespace, and say what hides some."),
]
ThisNetnsOption = Annotated[
    bool,
    typer.Option("--this-netns", help="Look in this network namespace alone."),
]
AsciiOption = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, schema twdiag/1.")]
BriefOption = Annotated[bool, typer.Option("--brief", help="Write one line per finding.")]
FullOption = Annotated[bool, typer.Option("--full", help="Write everything about every finding.")]
