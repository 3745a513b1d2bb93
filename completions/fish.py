"""The completion script for fish, 3.0 or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from completions.grammar import Takes, Word, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from completions.grammar import Command, Option, Value

_LISTS: Final = (
    Takes.RULE,
    Takes.STATE,
    Takes.LIMIT,
    Takes.METRIC,
    Takes.PAGE,
    Takes.SCENARIO,
    Takes.COMMAND,
)
_SCRIPT: Final = """\
# fish completion for twdiag, made from its command line; do not edit.

# Whether the words before the cursor are those of a command, and how many arguments it has.
function __twdiag_is --argument-names wanted most
    set -l command
    set -l count 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch "$command $word"
%(commands)s
%(valued)s
            case '* -*'
            case '*'
                set count (math $count + 1)
        end
    end
    test "$command" = "$wanted" -a $count -le $most
end

%(lists)s
complete --command twdiag --no-files
%(completions)s
"""
_MANY: Final = 99
"""More arguments than anybody writes: options are offered behind any number of them."""


def script(root: Command) -> str:
    """Return the whole script."""
    commands = tuple(root.walk())
    return _SCRIPT % {
        "commands": "\n".join(_commands(commands)),
        "valued": "\n".join(_valued(commands)),
        "lists": "\n".join(map(_list, _LISTS)),
        "completions": "\n".join(line for command in commands for line in _completions(command)),
    }


def _path(command: Command) -> str:
    return "-".join(command.path)


def _commands(commands: tuple[Command, ...]) -> Iterator[str]:
    for command in commands:
        for below in command.commands:
            yield f"            case {_quoted(f'{_path(command)} {below.path[-1]}')}"
            yield f"                set command {_path(below)}"


def _valued(commands: tuple[Command, ...]) -> Iterator[str]:
    """Yield the options that take the following word as their value."""
    for command in commands:
        names = [name for option in command.options if option.value for name in option.names]
        if names:
            cases = " ".join(_quoted(f"{_path(command)} {name}") for name in names)
            yield f"            case {cases}"
            yield "                set skip 1"


def _list(kind: Takes) -> str:
    """Return the function that prints all words of a kind with their meanings."""
    end = "=" if kind in (Takes.LIMIT, Takes.METRIC) else ""
    found = (Word(word.name + end, word.meaning) for word in words(kind))
    lines = " \\\n".join(f"        {_quoted(w.name)} {_quoted(w.meaning)}" for w in found)
    return f"""\
function __twdiag_words_{kind.value}
    printf '%s\\t%s\\n' \\
{lines}
end
"""


def _completions(command: Command) -> Iterator[str]:
    """Yield a line for each command, argument and option that can follow a command."""
    for below in command.commands:
        text = _quoted(below.summary)
        yield _complete(command, 0, f"--arguments {below.path[-1]} --description {text}")
    for argument in command.arguments:
        yield _complete(command, 0, f"--arguments {_offer(argument.value)}")
    for option in command.options:
        for names in (option.names, option.off):
            if names:
                yield _complete(command, _MANY, _option(names, option))


def _complete(command: Command, most: int, what: str) -> str:
    condition = _quoted(f'__twdiag_is "{_path(command)}" {most}')
    return f"complete --command twdiag --condition {condition} {what}"


def _option(names: Iterable[str], option: Option) -> str:
    spelled = " ".join(
        f"--long-option {name[2:]}" if name[:2] == "--" else f"--short-option {name[1:]}"
        for name in names
    )
    value = ""
    if option.value is not None and option.value.kind is Takes.FILE:
        value = " --require-parameter --force-files"
    elif option.value is not None:
        value = " --exclusive"
        if option.value.kind is not Takes.FREE:
            value += f" --arguments {_offer(option.value)}"
    return f"{spelled}{value} --description {_quoted(option.help)}"


def _offer(value: Value) -> str:
    return _quoted(" ".join(value.choices) or f"(__twdiag_words_{value.kind.value})")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
