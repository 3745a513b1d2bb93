"""All that twdiag touches of typer beyond its public names: an update can break it only here.

Since 0.26 typer carries click's code in itself as `typer._click`, and its commands, parameters and
mistakes are classes of that.  What leaves this module are plain values.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from typer._click.exceptions import (
    BadOptionUsage,
    BadParameter,
    ClickException,
    MissingParameter,
    NoArgsIsHelpError,
    NoSuchOption,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

__all__ = [
    "ClickException",
    "Described",
    "Mistake",
    "NoArgsIsHelpError",
    "Parameter",
    "answer_a_shell",
    "describe",
    "help_of",
    "mistake",
    "parse",
]


class Parameter(NamedTuple):
    """An option or an argument.

    `names` are the shorter first, `off` those that turn a flag off; `low` and `high` the bounds of
    a number, `whole` whether it is an integer, None for what is no number.
    """

    is_option: bool
    names: tuple[str, ...]
    off: tuple[str, ...]
    help: str
    metavar: str
    is_flag: bool
    repeats: bool
    required: bool
    default: str
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    whole: bool | None


class Described(NamedTuple):
    """A command with its parameters and the commands below it, what is hidden left out."""

    name: str
    summary: str
    help: str
    epilog: str
    parameters: tuple[Parameter, ...]
    commands: tuple[Described, ...]


class Mistake(NamedTuple):
    """What is wrong with a command line.

    `kind` is "option" or "command" (there is none of this name; `known` are those there are),
    "value" (`word` is not one for `parameter`), "missing" (`parameter` is), "no value", "needless
    value" (`word` is the option), "extra" (words that nothing takes) or "other", in typer's `text`.
    `command` is the command as it is called, such as "twdiag lab run".
    """

    kind: str
    command: str
    text: str
    word: str = ""
    known: tuple[str, ...] = ()
    parameter: Parameter | None = None
    formats: tuple[str, ...] = ()


_NO_COMMAND: Final = re.compile(r"No such command '(.*?)'\.", re.DOTALL)
_EXTRA: Final = re.compile(r"Got unexpected extra arguments?\(?s?\)? \((.*)\)", re.DOTALL)
_VALUE: Final = re.compile(r"(.*?) is not (?:a valid|in the range|one of)\b", re.DOTALL)


def describe(app: typer.Typer) -> Described:
    """Return the whole command line of an application."""
    return _described(_command(app), "twdiag", None)


def _command(app: typer.Typer) -> Any:
    import typer

    return typer.main.get_command(app)


def _described(found: Any, name: str, parent: Any) -> Described:
    context = found.make_context(name, [], parent=parent, resilient_parsing=True)
    return Described(
        name,
        found.get_short_help_str(1000),
        found.help or "",
        (found.epilog or "").replace("\b\n", ""),
        tuple(_parameter(p) for p in found.get_params(context) if not p.hidden),
        tuple(
            _described(below, name, context)
            for name, below in getattr(found, "commands", {}).items()
            if not below.hidden
        ),
    )


def _parameter(found: Any) -> Parameter:
    is_option = found.param_type_name == "option"
    is_flag = is_option and bool(found.is_flag or found.count)
    default = getattr(found.default, "value", found.default)
    shown = is_option and found.show_default and not is_flag and default is not None
    kind = found.type
    return Parameter(
        is_option,
        tuple(sorted(found.opts, key=len)),
        tuple(found.secondary_opts),
        found.help or "",
        found.metavar or found.name.upper(),
        is_flag,
        bool(is_option and (found.multiple or found.count)),
        bool(found.required),
        f"{default:g}" if shown and isinstance(default, float) else str(default) if shown else "",
        tuple(str(getattr(choice, "value", choice)) for choice in getattr(kind, "choices", ())),
        getattr(kind, "min", None),
        getattr(kind, "max", None),
        {"int": True, "float": False}.get(getattr(kind, "name", "").split(" ")[0]),
    )


def mistake(error: typer.TyperException, app: typer.Typer, words: Sequence[str]) -> Mistake:
    """Return what is wrong with the words that typer refuses."""
    context, text = getattr(error, "ctx", None), error.format_message()
    command = _called(app, words) if context is None else context.command_path
    found = Mistake("other", command, text)
    if isinstance(error, NoSuchOption) and context is not None:
        parameters = [_parameter(p) for p in context.command.get_params(context)]
        known = [n for p in parameters if p.is_option for n in (*p.names, *p.off)]
        formats = next((p.choices for p in parameters if "--format" in p.names), ())
        return found._replace(
            kind="option", word=error.option_name, known=tuple(known), formats=formats
        )
    if isinstance(error, BadOptionUsage):
        kind = "no value" if "requires" in error.message else "needless value"
        return found._replace(kind=kind, word=error.option_name)
    if isinstance(error, BadParameter) and error.param is not None:
        return _about_a_parameter(found, error)
    if unknown := _NO_COMMAND.match(text):
        known = list(getattr(getattr(context, "command", None), "commands", ()))
        return found._replace(kind="command", word=unknown[1], known=tuple(known))
    if extra := _EXTRA.match(text):
        return found._replace(kind="extra", word=extra[1])
    return found


def _called(app: typer.Typer, words: Sequence[str]) -> str:
    """Return the command that some words call, as far as they do: "twdiag lab run"."""
    found, path = _command(app), ["twdiag"]
    for word in words:
        found = getattr(found, "commands", {}).get(word)
        if found is None:
            break
        path.append(word)
    return " ".join(path)


def _about_a_parameter(found: Mistake, error: BadParameter) -> Mistake:
    parameter = _parameter(error.param)
    if isinstance(error, MissingParameter):
        return found._replace(kind="missing", parameter=parameter)
    value = _VALUE.match(error.message)
    if value is None:
        return found._replace(text=error.message)
    word = value[1]
    if word[:1] == word[-1:] and word[:1] in ("'", '"'):  # repr() of a word
        word = word[1:-1]
    return found._replace(kind="value", parameter=parameter, word=word)


def help_of(app: typer.Typer, path: Sequence[str]) -> str | Mistake:
    """Return the help of the command that some words lead to, or where they lead nowhere."""
    found, name = _command(app), "twdiag"
    context: Any = None
    for word in ("", *path):
        if word:
            commands = getattr(found, "commands", {})
            if word not in commands:
                return Mistake("command", str(context.command_path), "", word, tuple(commands))
            found, name = commands[word], word
        context = found.make_context(name, [], parent=context, resilient_parsing=True)
    return str(context.get_help())


def parse(app: typer.Typer, words: Sequence[str]) -> None:
    """Parse the words of a command without running it; raises ClickException as a run would."""
    command = _command(app)
    context = command.make_context("twdiag", list(words))
    rest = [*context._protected_args, *context.args]
    while rest:
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context("twdiag", rest, parent=context)
        below = hasattr(command, "commands")
        rest = [*context._protected_args, *context.args] if below else []


def answer_a_shell() -> None:
    """Let the application answer with the words that can follow (`_TWDIAG_COMPLETE=complete_...`).

    What typer registers for its option --install-completion, which twdiag does not have.
    """
    from typer._completion_classes import completion_init

    completion_init()
