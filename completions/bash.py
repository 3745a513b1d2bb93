"""The completion script for bash, 4.4 or later, with or without the package bash-completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from completions.grammar import Takes, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from completions.grammar import Command, Value

_SCRIPT: Final = r"""# bash completion for twdiag, made from its command line; do not edit.

_twdiag() {
    local IFS=$' \t\n' word glue='' command='' option='' count=0 i
    local -a line=('')
    COMPREPLY=()

    # Put together what readline takes apart at "=" and ":".
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == [=:]* && i -gt 1 ]]; then
            line[${#line[@]}-1]+=$word
            glue=1
        elif [[ -n $glue ]]; then
            line[${#line[@]}-1]+=$word
            glue=''
        else
            line+=("$word")
        fi
    done

    # Which command is it, and does an option wait for its value?
    for word in "${line[@]:1:${#line[@]}-2}"; do
        if [[ -n $option ]]; then
            option=''
            continue
        fi
        case "$command $word" in
%(commands)s
%(valued)s
            *' '-*) ;;
            *) ((count++)) ;;
        esac
    done

    local current=${line[${#line[@]}-1]} prefix='' wanted='' end=''
    if [[ -z $option && $current == --*=* ]]; then
        option=${current%%%%=*}
        prefix=$option=
        current=${current#*=}
    fi
    if [[ -n $option ]]; then
        case "$command $option" in
%(values)s
        esac
    elif [[ $current == -* ]]; then
        case $command in
%(options)s
        esac
    else
        case $command in
%(arguments)s
        esac
    fi

    # Offer what begins like it, in any case, without the part that readline keeps.
    local kept=${line[${#line[@]}-1]}
    word=${COMP_WORDS[COMP_CWORD]}
    [[ $word == [=:]* ]] || kept=${kept%%"$word"}
    for word in $wanted; do
        if [[ ${word,,} == "${current,,}"* ]]; then
            word=$prefix$word$end
            COMPREPLY+=("${word#"$kept"}")
        fi
    done
    [[ -n $end ]] && compopt -o nospace
    return 0
}

complete -F _twdiag twdiag
"""


def script(root: Command) -> str:
    """Return the whole script."""
    commands = tuple(root.walk())
    return _SCRIPT % {
        "commands": "\n".join(_lines(" " * 12, _commands(commands))),
        "valued": "\n".join(_lines(" " * 12, _valued(commands))),
        "values": "\n".join(_lines(" " * 12, _values(commands))),
        "options": "\n".join(_lines(" " * 12, _options(commands))),
        "arguments": "\n".join(_lines(" " * 12, _arguments(commands))),
    }


def _lines(indent: str, lines: Iterator[str]) -> Iterator[str]:
    return (indent + line for line in lines)


def _path(command: Command) -> str:
    return "-".join(command.path)


def _commands(commands: tuple[Command, ...]) -> Iterator[str]:
    for command in commands:
        for below in command.commands:
            yield f"'{_path(command)} {below.path[-1]}') command={_path(below)} ;;"


def _valued(commands: tuple[Command, ...]) -> Iterator[str]:
    """Yield the options that take a value, in the word that follows."""
    for command in commands:
        names = [name for option in command.options if option.value for name in option.names]
        if names:
            yield f"{_any(command, names)}) option=$word ;;"


def _any(command: Command, names: list[str]) -> str:
    return " | ".join(f"'{_path(command)} {name}'" for name in names)


def _values(commands: tuple[Command, ...]) -> Iterator[str]:
    for command in commands:
        for option in command.options:
            if option.value is not None and option.value.kind is not Takes.FREE:
                yield f"{_any(command, list(option.names))}) {_offer(option.value)} ;;"


def _offer(value: Value) -> str:
    """Return the commands that offer the words of a value."""
    if value.kind is Takes.FILE:
        return "compopt -o default; return"
    names = value.choices or tuple(word.name for word in words(value.kind))
    offer = f"wanted={_quoted(' '.join(names))}"
    return f"{offer} end='='" if value.kind in (Takes.LIMIT, Takes.METRIC) else offer


def _options(commands: tuple[Command, ...]) -> Iterator[str]:
    for command in commands:
        names = [name for option in command.options for name in (*option.names, *option.off)]
        yield f"'{_path(command)}') wanted={_quoted(' '.join(names))} ;;"


def _arguments(commands: tuple[Command, ...]) -> Iterator[str]:
    """Yield what stands where no option does: commands, arguments, or else the options."""
    for command in commands:
        if command.commands:
            names = " ".join(below.path[-1] for below in command.commands)
            yield f"'{_path(command)}') wanted={_quoted(names)} ;;"
        elif command.arguments:
            offer = _offer(command.arguments[0].value)
            yield f"'{_path(command)}') ((count)) || {offer} ;;"
        else:
            names = " ".join(option.names[-1] for option in command.options)
            yield f"'{_path(command)}') wanted={_quoted(names)} ;;"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
