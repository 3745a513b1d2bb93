"""`twdiag doctor`: what this host lets twdiag see, and whether its readers agree."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

EPILOG: Final = """\b
Examples:
  twdiag doctor                          what is seen, what is not, and why
  twdiag doctor --json                   for a bug report: nothing private
  sudo twdiag doctor                     what root would see

\b
Exit status: 0 if the readers of sockets agree, 3 if they do not, or if only
one of them works.
"""


def doctor(
    json: Annotated[
        bool,
        typer.Option("--json", help="Write JSON, schema twdiag-doctor/1, without private data."),
    ] = False,
) -> None:
    """Show what this host lets twdiag see, and check its readers.

    It tries each feature of the kernel and each right, and lets its four readers of sockets
    (netlink, /proc, psutil, pyroute2) count the same sockets.
    """
    from twdiag.cli import terminal
    from twdiag.engine.doctor import examine
    from twdiag.render import doctor as render

    terminal.make_output_safe()
    with terminal.patience("counting the sockets in four ways"):
        health = examine()
    if json:
        render.render_json(health, sys.stdout)
    else:
        render.render_text(health, sys.stdout, terminal.width_of(sys.stdout))
    if not health.agree:
        raise typer.Exit(3)
