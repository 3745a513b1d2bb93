"""The command line: the only place that knows typer, argv, the environment and exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer

from twdiag import __version__
from twdiag.cli import diagnose, lab
from twdiag.errors import TwdiagError

_EPILOG: Final = """\b
Examples:
  twdiag                                 what is wrong on this host?
  twdiag diagnose --json | jq .status    the same for a program
  twdiag lab run close-wait-leak         make a leak in a private namespace and diagnose it
"""

app = typer.Typer(
    name="twdiag",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"twdiag {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=_EPILOG)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Show the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Diagnose TIME_WAIT, CLOSE_WAIT and port exhaustion on this host.

    Without a command, twdiag runs `diagnose`. It only reads; it never changes the host.
    """
    if context.invoked_subcommand is None:
        diagnose.run(diagnose.Request())


app.command("diagnose", epilog=diagnose.EPILOG)(diagnose.diagnose)
app.add_typer(lab.app, name="lab")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; whatever goes wrong is said in one sentence."""
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run the command line on these words and return the exit code."""
    from typer._click.exceptions import ClickException

    try:
        code = app(words, prog_name="twdiag", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except TwdiagError as error:
        return fail(error.what, error.next_step, error.exit_code)
    except ClickException as error:
        return fail(error.format_message(), "see: twdiag --help", 3)
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; python would complain while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("TWDIAG_DEBUG"):
            raise
        what = f"internal error: {type(error).__name__}: {error}"
        return fail(what, "please report it with the output of TWDIAG_DEBUG=1 twdiag ...", 3)


def fail(what: str, next_step: str, code: int) -> int:
    """Say on stderr what went wrong and what to do next, and return the exit code."""
    from twdiag.wording import visible

    print(f"twdiag: {visible(what)}", file=sys.stderr)
    if next_step:
        print(f"        {visible(next_step)}", file=sys.stderr)
    return code
