"""What a page of the explanations is: a name, a title, and blocks of text and drawings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class PageKind(enum.Enum):
    """What a page is about."""

    STATE = "state"
    SCENARIO = "scenario"
    TOPIC = "topic"
    MYTH = "myth"
    RULE = "rule"
    SOFTWARE = "software"
    MESSAGE = "message"
    LAB = "lab"
    TERM = "term"


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
class Code:
    """Lines that stand as they are: a program, or what a command printed."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageTable:
    """Rows of cells, all of one length; the first row is the head."""

    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Something drawn from the model: `draw(ascii, width)` returns its lines."""

    draw: Callable[[bool, int], list[str]]


PageBlock = Heading | Text | Item | Term | Command | Code | PageTable | Drawing


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A page as the index shows it; `aliases` are other words that find it."""

    name: str
    kind: PageKind
    title: str
    summary: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """One page: `see` names other pages, `cites` says what its statements rest on."""

    name: str
    kind: PageKind
    title: str
    summary: str
    body: tuple[PageBlock, ...]
    see: tuple[str, ...] = ()
    cites: tuple[str, ...] = ()
