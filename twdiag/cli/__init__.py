"""The command line: the only place that knows typer, argv, the environment and exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from twdiag import __version__
from twdiag.errors import TwdiagError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_EPILOG: Final = """\b
Examples:
  twdiag                                 what is wrong on this host?
  twdiag diagnose --json | jq .status    the same for a program
  twdiag check                           one line and an exit code, for Nagios
  twdiag explain CLOSE_WAIT              what a state, a finding or a myth is
  twdiag lab run close-wait-leak         make a leak to try it on

\b
More: man twdiag, twdiag COMMAND --help
"""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"twdiag {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            help="Show the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Diagnose TIME_WAIT, CLOSE_WAIT and port exhaustion on this host.

    Without a command, twdiag runs `diagnose`, with its options if there are any. It only reads; it
    never changes the host.
    """
    if context.invoked_subcommand is None:
        from twdiag.cli import diagnose

        diagnose.run(diagnose.Request())


def _add_diagnose(app: typer.Typer) -> None:
    from twdiag.cli import diagnose

    app.command("diagnose", epilog=diagnose.EPILOG)(diagnose.diagnose)


def _add_check(app: typer.Typer) -> None:
    from twdiag.cli import check

    app.command("check", epilog=check.EPILOG, add_help_option=False)(check.check)


def _add_explain(app: typer.Typer) -> None:
    from twdiag.cli import explain

    app.command("explain", epilog=explain.EPILOG)(explain.explain)


def _add_lab(app: typer.Typer) -> None:
    from twdiag.cli import lab

    app.add_typer(lab.app, name="lab")


def _add_port(app: typer.Typer) -> None:
    from twdiag.cli import port

    app.command("port", epilog=port.EPILOG)(port.port)


def _add_doctor(app: typer.Typer) -> None:
    from twdiag.cli import doctor

    app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)


_OWN_OPTIONS: Final = frozenset({"-h", "--help", "-V", "--version"})
_COMMANDS: Final[Mapping[str, Callable[[typer.Typer], None]]] = {
    "diagnose": _add_diagnose,
    "check": _add_check,
    "port": _add_port,
    "doctor": _add_doctor,
    "explain": _add_explain,
    "lab": _add_lab,
}


def application(words: Sequence[str] = ()) -> typer.Typer:
    """Return the application that these words need.

    Typer takes 1 to 3 ms to take in a command, so that of a plain call comes alone.
    """
    app = typer.Typer(
        name="twdiag",
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True, epilog=_EPILOG)(_root)
    called = words[0] if words else ""
    for name, add in _COMMANDS.items():
        if called == name or called not in _COMMANDS:
            add(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; whatever goes wrong is said in one sentence."""
    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None and os.path.basename(sys.argv[0]) == "check_twdiag":
        words = ["check", *words]  # a link of this name in a folder of plugins
    if arguments is not None:
        sys.exit(run(words))
    if _is_check(words):
        import gc

        gc.disable()  # nothing to collect in a run that short, and looking costs 3 ms
    _leave(run(words))


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart, which takes 10 ms."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run(words: list[str]) -> int:
    """Run the command line on these words and return the exit code."""
    from typer._click.exceptions import ClickException, NoArgsIsHelpError

    if sys.stdout is None:  # closed by the caller: the exit code is all that is left to say
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    plugin = _is_check(words)
    refuse = fail_as_plugin if plugin else fail
    if words and words[0].startswith("-") and words[0] not in _OWN_OPTIONS and not plugin:
        words = ["diagnose", *words]  # `twdiag --json` is `twdiag diagnose --json`
    try:
        if "_TWDIAG_COMPLETE" in os.environ:
            from twdiag.cli import completion

            if completion.wrote_script(os.environ["_TWDIAG_COMPLETE"]):
                return 0
        code = application(words)(words, prog_name="twdiag", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except TwdiagError as error:
        return refuse(error.what, error.next_step, error.exit_code)
    except NoArgsIsHelpError as help_text:
        print(help_text.format_message())
        return 0
    except ClickException as error:
        return refuse(error.format_message(), f"see: twdiag {'check ' if plugin else ''}--help", 3)
    except SystemExit as end:
        if "_TWDIAG_COMPLETE" in os.environ:  # typer has answered for a shell
            return int(end.code or 0)
        return _unread(plugin)  # typer ends with 1 where the reader of a pipe has gone
    except typer.Abort:
        return 130
    except BrokenPipeError:
        return _unread(plugin)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return refuse(f"it cannot go on: {error.strerror or error}", "is a disk full?", 3)
    except Exception as error:
        if os.environ.get("TWDIAG_DEBUG"):
            raise
        what = f"internal error: {type(error).__name__}: {error}"
        return refuse(what, "please report it with the output of TWDIAG_DEBUG=1 twdiag ...", 3)


def _unread(plugin: bool) -> int:
    """Return the exit code for output whose reader has gone: it has seen enough, unless it polls.

    Python would complain of the pipe once more while flushing at exit.
    """
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 3 if plugin else 0


def _is_check(words: list[str]) -> bool:
    """Return whether these words mean `check`, whose refusals a monitoring system reads."""
    return next((word for word in words if not word.startswith("-")), "") == "check"


def fail(what: str, next_step: str, code: int) -> int:
    """Say on stderr what went wrong and what to do next, and return the exit code."""
    from twdiag.wording import visible

    print(f"twdiag: {visible(what)}", file=sys.stderr)
    if next_step:
        print(f"        {visible(next_step)}", file=sys.stderr)
    return code


def fail_as_plugin(what: str, next_step: str, code: int) -> int:
    """Say on stdout what went wrong, as a plugin has to, and return 3 for UNKNOWN."""
    from twdiag.check.verdict import unknown
    from twdiag.render.nagios import render_nagios

    render_nagios(unknown(what, next_step), sys.stdout)
    return 3
