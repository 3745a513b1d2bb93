"""What is known of servers, clients and load balancers: one TOML file each, with its sources.

Nothing is read before it is asked for.  `find` reads the head of every file (what stands before its
first table) and the whole of one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from twdiag.software.facts import (
    SIDES,
    TOPICS,
    Head,
    Idle,
    Software,
    SoftwareFileError,
    Statement,
    may_race,
)

__all__ = [
    "SIDES",
    "TOPICS",
    "Head",
    "Idle",
    "Software",
    "SoftwareFileError",
    "Statement",
    "all_software",
    "find",
    "heads",
    "load",
    "may_race",
]

_FOLDER: Final = Path(__file__).parent


def find(process_name: str, command_line: str = "") -> Software | None:
    """Return the program that a process is, None where its name and command line do not tell."""
    for head in heads():
        if head.matches(process_name, command_line):
            return load(head.name)
    return None


@cache
def heads() -> tuple[Head, ...]:
    """Return the head of every known program, by name."""
    from twdiag.software.files import read_head

    return tuple(read_head(path) for path in sorted(_FOLDER.glob("*.toml")))


@cache
def load(name: str) -> Software:
    """Return the program of a name, which one of the heads has."""
    from twdiag.software.files import read_software

    return read_software(_FOLDER / f"{name}.toml")


def all_software() -> tuple[Software, ...]:
    """Return every known program, by name.  Reads every file: about 0.6 ms each."""
    return tuple(load(head.name) for head in heads())
