"""`twdiag port`: why a port cannot be bound, by whom, and until when."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from twdiag.cli.options import NetnsOption  # noqa: TC001  (typer reads the annotations)

EPILOG: Final = """\b
Examples:
  twdiag port 8080                       who has it, and what bind() would say
  twdiag port 80 --netns web_1           the same in a container
  twdiag port 8080 --json | jq .verdict  for a program: free or blocked

\b
Exit status: 0 if it could look (whatever it found), 3 if it could not.
"""


def port(
    number: Annotated[
        int, typer.Argument(min=1, max=65535, metavar="PORT", help="The local port.")
    ],
    netns: NetnsOption = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, schema twdiag-port/1.")] = False,
) -> None:
    """Say why a port cannot be bound, by whom and until when.

    It lists who listens, who is bound and which left-over connections are in the way, and says for
    each address what bind() would answer, plain, with SO_REUSEADDR and with SO_REUSEPORT.
    """
    from twdiag.cli import terminal
    from twdiag.engine.port import look
    from twdiag.render import port as render

    terminal.make_output_safe()
    report = look(number, netns)
    if json:
        render.render_json(report, sys.stdout)
    else:
        render.render_text(report, sys.stdout, terminal.width_of(sys.stdout))
