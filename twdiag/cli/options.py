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


SourceOption = Annotated[
    Source, typer.Option("--source", help="Where socket states come from; auto: netlink or /proc.")
]
ColorOption = Annotated[Color, typer.Option("--color", help="Use colours.")]
SelectOption = Annotated[
    list[str] | None, typer.Option("--select", metavar="RULE", help="Run only this rule (repeat).")
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="RULE", help="Leave this rule out (repeat).")
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=VALUE", help="Set one threshold (repeat)."),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Read settings from this TOML file too."),
]
PortOption = Annotated[
    list[int] | None,
    typer.Option(
        "--port", min=1, max=65535, metavar="N", help="Only findings about this port (repeat)."
    ),
]
ProcessOption = Annotated[
    list[str] | None,
    typer.Option(
        "--process", metavar="NAME", help="Only findings about this process or PID (repeat)."
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
        help="Take a second sample after S seconds.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, schema twdiag/1.")]
BriefOption = Annotated[bool, typer.Option("--brief", help="One line per finding.")]
FullOption = Annotated[bool, typer.Option("--full", help="Everything about every finding.")]
