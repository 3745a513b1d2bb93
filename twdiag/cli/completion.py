"""Completion for shells: the scripts, and the answer to programs that complete for others.

The scripts hold every word there is, so that TAB starts no python.  `completions/generate` writes
them; a wheel has a copy beside this module, which the build puts there.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from twdiag.errors import TwdiagError, UsageError

VARIABLE: Final = "_TWDIAG_COMPLETE"
"""`_TWDIAG_COMPLETE=source_bash twdiag` writes a script: the convention of Click and Typer."""
SCRIPTS: Final = {"bash": "twdiag.bash", "zsh": "_twdiag", "fish": "twdiag.fish"}
_HERE: Final = os.path.dirname(os.path.abspath(__file__))
_FOLDERS: Final = (
    os.path.join(_HERE, "completions"),  # a wheel
    os.path.join(_HERE, "..", "..", "completions"),  # a clone
)


def script(shell: str) -> str:
    """Return the completion script for a shell."""
    for folder in _FOLDERS:
        path = os.path.join(folder, SCRIPTS[shell])
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return file.read()
    raise TwdiagError(
        f"this installation has no completion script for {shell}",
        "take it from the folder completions/ of the source",
    )


def wrote_script(instruction: str) -> bool:
    """Write the script that the variable asks for, or return False where typer is to answer.

    Programs that complete for many others ask for single words (`complete_bash`); the scripts do
    not.  Raises UsageError where the variable asks for something else.
    """
    verb, _, shell = instruction.partition("_")
    if shell not in SCRIPTS or verb not in ("source", "complete"):
        wanted = ", ".join(f"source_{name}" for name in SCRIPTS)
        raise UsageError(f"{VARIABLE} is {instruction!r}", f"set it to one of {wanted}")
    if verb == "complete":
        from twdiag.cli.typer_parts import answer_a_shell

        answer_a_shell()
        return False
    sys.stdout.write(script(shell))
    return True
