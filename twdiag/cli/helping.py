"""`twdiag help`: the help of a command, for whoever looks for it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG: Final = """\b
Examples:
  twdiag help
  twdiag help check
  twdiag help lab run
"""


def help_command(application: Callable[[], typer.Typer]) -> Callable[..., None]:
    """Return the command that shows the help of an application's commands."""

    def show_help(
        words: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[COMMAND]", help="A command, with the command below it if any."
            ),
        ] = None,
    ) -> None:
        """Show the help of twdiag or of a command."""
        from twdiag.cli.refusals import refusal
        from twdiag.cli.typer_parts import Mistake, help_of

        found = help_of(application(), words or ())
        if isinstance(found, Mistake):
            raise refusal(found)
        typer.echo(found)

    return show_help
