"""Completion scripts for shells, made from the command line itself.

They hold every word there is, so that TAB starts no python and runs no twdiag.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from twdiag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.cli.grammar import Command

VARIABLE: Final = "_TWDIAG_COMPLETE"
"""`_TWDIAG_COMPLETE=source_bash twdiag` writes a script: the convention of Click and Typer."""


def _bash(root: Command) -> str:
    from twdiag.cli.completion.bash import script

    return script(root)


def _fish(root: Command) -> str:
    from twdiag.cli.completion.fish import script

    return script(root)


def _zsh(root: Command) -> str:
    from twdiag.cli.completion.zsh import script

    return script(root)


SHELLS: Final[Mapping[str, Callable[[Command], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def script(shell: str) -> str:
    """Return the completion script for a shell."""
    from twdiag.cli import grammar

    root = grammar.read()
    taken = {name for option in root.options for name in option.names}
    # Without a command, the options are those of `diagnose`.
    more = (
        option
        for command in root.commands
        if command.path == ("diagnose",)
        for option in command.options
        if not taken.intersection(option.names)
    )
    return SHELLS[shell](root._replace(options=(*more, *root.options)))


def wrote_script(instruction: str) -> bool:
    """Write the script that the variable asks for, or return False where typer is to answer.

    Programs that complete for many others ask for single words (`complete_bash`); the scripts do
    not.  Raises UsageError where the variable asks for something else.
    """
    verb, _, shell = instruction.partition("_")
    if shell not in SHELLS or verb not in ("source", "complete"):
        wanted = ", ".join(f"source_{name}" for name in SHELLS)
        raise UsageError(f"{VARIABLE} is {instruction!r}", f"set it to one of {wanted}")
    if verb == "complete":
        from typer._completion_classes import completion_init

        completion_init()
        return False
    sys.stdout.write(script(shell))
    return True
