"""The command line: the only place that knows typer, argv, the environment and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from twdiag import __version__
from twdiag.cli import streams
from twdiag.errors import TwdiagError, was_interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TextIO

_EPILOG: Final = """\b
Examples:
  twdiag                                 what is wrong on this host?
  twdiag diagnose --json | jq .status    the same for a program
  twdiag check                           one line and an exit code, for Nagios
  twdiag watch                           the live screen
  twdiag sockets --state CLOSE_WAIT      the rows: role, age, owner
  twdiag trace --for 30s                 who closes first, as it happens
  twdiag explain CLOSE_WAIT              what a state, a finding or a myth is
  twdiag lab run close-wait-leak         make a leak to try it on

\b
More: man twdiag, twdiag help COMMAND
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
        from twdiag.engine.diagnose import DiagnoseRequest

        diagnose.run(DiagnoseRequest())


def _add_diagnose(app: typer.Typer) -> None:
    from twdiag.cli import diagnose

    app.command("diagnose", epilog=diagnose.EPILOG)(diagnose.diagnose)


def _add_check(app: typer.Typer) -> None:
    from twdiag.cli import check

    app.command("check", epilog=check.EPILOG, add_help_option=False)(check.check)


def _add_trace(app: typer.Typer) -> None:
    from twdiag.cli import trace

    app.command("trace", epilog=trace.EPILOG)(trace.trace)


def _add_watch(app: typer.Typer) -> None:
    from twdiag.cli import watch

    app.command("watch", epilog=watch.EPILOG)(watch.watch)


def _add_explain(app: typer.Typer) -> None:
    from twdiag.cli import explain

    app.command("explain", epilog=explain.EPILOG)(explain.explain)


def _add_lab(app: typer.Typer) -> None:
    from twdiag.cli import lab

    app.add_typer(lab.app, name="lab")


def _add_help(app: typer.Typer) -> None:
    from twdiag.cli import helping

    app.command("help", epilog=helping.EPILOG)(helping.help_command(application))


def _add_port(app: typer.Typer) -> None:
    from twdiag.cli import port

    app.command("port", epilog=port.EPILOG)(port.port)


def _add_sockets(app: typer.Typer) -> None:
    from twdiag.cli import sockets

    app.command("sockets", epilog=sockets.EPILOG)(sockets.sockets)


def _add_doctor(app: typer.Typer) -> None:
    from twdiag.cli import doctor

    app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)


_OWN_OPTIONS: Final = frozenset({"-h", "--help", "-V", "--version"})
_COMMANDS: Final[Mapping[str, Callable[[typer.Typer], None]]] = {
    "diagnose": _add_diagnose,
    "check": _add_check,
    "watch": _add_watch,
    "trace": _add_trace,
    "sockets": _add_sockets,
    "port": _add_port,
    "doctor": _add_doctor,
    "explain": _add_explain,
    "lab": _add_lab,
    "help": _add_help,
}

_ONE_LOOK: Final = frozenset({"diagnose", "check"})
"""Commands that end before there is any garbage, and whose many objects it costs time to count."""


def application(words: Sequence[str] = ()) -> typer.Typer:
    """Return the application that these words need.

    Typer takes 1 to 3 ms to take in a command, so that of a plain call comes alone.
    """
    app = typer.Typer(
        name="twdiag",
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        suggest_commands=False,  # refusals.py does
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True, epilog=_EPILOG)(_root)
    called = words[0] if words else ""
    for name, add in _COMMANDS.items():
        if called == name or called not in _COMMANDS:
            add(app)
    return app


def main() -> NoReturn:
    """Run the command line and end the process; whatever goes wrong is said in one sentence."""
    streams.open_missing()
    words = sys.argv[1:]
    if os.path.basename(sys.argv[0]) == "check_twdiag":
        words = ["check", *words]  # a link of this name in a folder of plugins
    if words and words[0] in _COMMANDS and words[0] not in _ONE_LOOK:
        import gc

        # The start turned it off; what may run for hours needs it, without the start's objects.
        gc.freeze()
        gc.enable()
    _leave(run(words))


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart, which takes 10 ms."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(code)


def run(words: list[str]) -> int:
    """Run the command line on these words and return the exit code."""
    plugin = is_check(words)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _unread(plugin)
    except OSError as error:
        return _unwritten(error, plugin)
    except Exception as error:
        if was_interrupted(error):
            return 130
        if os.environ.get("TWDIAG_DEBUG") and not isinstance(error, (TwdiagError, typer.Abort)):
            raise
        return _refused(error, plugin)


def _run(words: list[str]) -> int:
    """Run the command line on these words; what goes wrong is raised, always as an error here."""
    if words and words[0].startswith("-") and words[0] not in _OWN_OPTIONS and not is_check(words):
        words = ["diagnose", *words]  # `twdiag --json` is `twdiag diagnose --json`
    for_a_shell = os.environ.get("_TWDIAG_COMPLETE", "")
    if for_a_shell:
        from twdiag.cli import completion

        if completion.wrote_script(for_a_shell):
            return 0
    app = application(words)
    try:
        return int(app(words, prog_name="twdiag", standalone_mode=False) or 0)
    except typer.TyperException as error:
        from twdiag.cli.refusals import refusal
        from twdiag.cli.typer_parts import NoArgsIsHelpError, mistake

        if isinstance(error, NoArgsIsHelpError):
            print(error.format_message())
            return 0
        raise refusal(mistake(error, app, words)) from error
    except SystemExit as end:
        if for_a_shell:  # typer has answered for a shell
            return int(end.code or 0)
        raise BrokenPipeError from end  # typer ends with 1 where the reader of a pipe has gone


def _refused(error: Exception, plugin: bool) -> int:
    """Say what went wrong where it is looked for, and return the exit code."""
    if isinstance(error, typer.Abort):
        return 130
    if not isinstance(error, TwdiagError):
        what = f"internal error: {type(error).__name__}: {error}"
        error = TwdiagError(what, "please report it with the output of TWDIAG_DEBUG=1 twdiag ...")
    try:
        if plugin:
            return _refuse_as_plugin(error, sys.stdout)
        return _refuse(error)
    except OSError as lost:
        return _unwritten(lost, plugin)


def _unread(plugin: bool) -> int:
    """Return the exit code for output whose reader has gone: it has seen enough, unless it polls.

    Python would complain of the pipe once more while flushing at exit.
    """
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 3 if plugin else 0


def _unwritten(error: OSError, plugin: bool) -> int:
    """Say on stderr why the output is lost, and return 3: the state was told to nobody."""
    _unread(plugin)
    if error.errno == errno.EBADF:
        streams.say("twdiag: the answer is lost: standard output is not open for writing")
        streams.say("        if nobody needs the answer, send it to /dev/null")
        return 3
    streams.say(f"twdiag: it cannot go on: {error.strerror or error}")
    streams.say("        is a disk full?")
    return 3


def is_check(words: Sequence[str]) -> bool:
    """Return whether these words mean `check`, whose refusals a monitoring system reads."""
    return next((word for word in words if not word.startswith("-")), "") == "check"


def _refuse(error: TwdiagError) -> int:
    """Say on stderr what went wrong and what to do next, and return the exit code."""
    from twdiag.wording import visible

    streams.say(f"twdiag: {visible(error.what)}")
    if error.next_step:
        streams.say(f"        {visible(error.next_step)}")
    return error.exit_code


def _refuse_as_plugin(error: TwdiagError, out: TextIO) -> int:
    """Say on stdout what went wrong, as a plugin has to, and return 3 for UNKNOWN."""
    from twdiag.check.verdict import unknown
    from twdiag.render.nagios import render_nagios

    render_nagios(unknown(error.what, error.next_step), out)
    out.flush()
    return 3
