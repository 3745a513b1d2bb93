"""What a page of the explanations is: a name, a title, and blocks of text and drawings."""

from __future__ import annotations

import enum
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(enum.Enum):
    """What a page is about; the index groups by it, in this order."""

    STATE = "state"
    SCENARIO = "scenario"
    TOPIC = "topic"
    MYTH = "myth"
    RULE = "rule"
    SOFTWARE = "software"


@dataclass(frozen=True, slots=True)
class Heading:
    """A line that begins a part of a page."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A point of a list; `mark` stands before it."""

    text: str
    mark: str = "-"


@dataclass(frozen=True, slots=True)
class Term:
    """A word and what it means."""

    term: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command that shows something on this host, and what it shows."""

    command: str
    shows: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Something drawn from the model: `draw(ascii, width)` returns its lines."""

    draw: Callable[[bool, int], list[str]]


Block = Heading | Text | Item | Term | Command | Drawing


@dataclass(frozen=True)
class Page:
    """One page: `see` names other pages, `cites` says what its statements rest on."""

    name: str
    kind: Kind
    title: str
    summary: str
    body: tuple[Block, ...]
    see: tuple[str, ...] = ()
    cites: tuple[str, ...] = ()


def prose(text: str) -> tuple[Block, ...]:
    """Return the blocks of a text in light markup.

    Paragraphs are apart by an empty line; `## ` begins a heading, `- ` a point, `= word: ` a term,
    `$ ` a command, with what it shows after two blanks and a `#`.
    """
    blocks: list[Block] = []
    for part in inspect.cleandoc(text).split("\n\n"):
        lines: list[str] = []
        for line in part.splitlines():
            if line.startswith(("## ", "- ", "= ", "$ ")) or (lines and lines[0][:3] == "## "):
                _flush(lines, blocks)
            lines.append(line.strip())
        _flush(lines, blocks)
    return tuple(blocks)


def _flush(lines: list[str], blocks: list[Block]) -> None:
    """Turn the lines collected so far into a block."""
    text = " ".join(lines)
    mark, _, rest = text.partition(" ")
    if mark == "##":
        blocks.append(Heading(rest))
    elif mark == "-":
        blocks.append(Item(rest))
    elif mark == "=":
        term, _, meaning = rest.partition(": ")
        blocks.append(Term(term, meaning))
    elif mark == "$":
        # A comment in a command needs its two blanks, which joining the lines keeps.
        command, _, shows = rest.partition("  # ")
        blocks.append(Command(command.strip(), shows.strip()))
    elif text:
        blocks.append(Text(text))
    lines.clear()
