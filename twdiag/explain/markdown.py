"""Reads a page that is written in a small, strict part of Markdown.

A page begins with a header between two lines of `---`: keys with a value, `title` and `summary`
always, `aliases` and `see` with names between commas; a line that begins with a blank goes on with
the value before it.  Then come, apart by empty lines:

    ## A heading
    A paragraph, of any number of lines.
    - a point of a list (further lines begin with blanks)
    1. a step of a list
    - **a word**: what it means
    | a table | with a head |
    | ------- | ----------- |
    | and     | rows        |
    {directive words}           a drawing or a story, made from the model

and, four columns in, what stands as it is: `$ command` lines, each followed by what it shows in
lines that begin with `# `; and any other lines, such as a program or the output of a command.

The section `## Rests on`, the last one, lists the sources.  Whatever else Markdown can do is an
error that names the file and the line: a page that looks right here looks right everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.errors import TwdiagError
from twdiag.explain.page import Code, Command, Heading, Item, PageBlock, PageTable, Term, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEYS: Final = ("title", "summary", "aliases", "see")
"""The keys of a header; the first two must be there."""

SOURCES: Final = "Rests on"
"""The heading of the section that lists what the statements of a page rest on."""

_POINT: Final = re.compile(r"(-|\d+\.) +(?=\S)")
_TERM: Final = re.compile(r"\*\*(.+?)\*\*: +(?=\S)")
_DIRECTIVE: Final = re.compile(r"\{([\w -]+)\}")
_INDENT: Final = "    "
_FOREIGN: Final = (
    (re.compile(r"#(?!# \S)"), "a heading is written: ## Words"),
    (re.compile(r"[*+] "), "a point of a list begins with: - "),
    (re.compile(r"```|~~~"), "a program is written four columns in, without a fence"),
    (re.compile(r">"), "quotations are not known here"),
    (re.compile(r"---|===|\*\*\*"), "rules across the page are not known here"),
    (re.compile(r"!?\[[^]]*\]\("), "a link is written in the header: see: name"),
    (re.compile(r"<\w"), "HTML is not known here"),
)


class PageFileError(TwdiagError):
    """The file of a page is not what the parser expects; says where."""

    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(
            f"{file}:{line}: {what}", "mend that line; README.md in that folder says how"
        )


@dataclass(frozen=True, slots=True)
class Directive:
    """A line that asks for something made from the model; `line` is where it stands."""

    words: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a page says about itself; `end` is the number of header lines."""

    title: str
    summary: str
    aliases: tuple[str, ...]
    see: tuple[str, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Written:
    """A page as it is written: directives are not carried out yet."""

    header: Header
    body: tuple[PageBlock | Directive, ...]
    cites: tuple[str, ...]


def parse_page(text: str, file: str) -> Written:
    """Return a page; `file` names it in errors.

    Raises PageFileError with file and line for everything that the module does not describe.
    """
    header = parse_header(text, file)
    blocks = parse_blocks(text.split("\n")[header.end :], file, header.end)
    at = blocks.index(Heading(SOURCES)) if Heading(SOURCES) in blocks else len(blocks)
    cites = []
    for block in blocks[at + 1 :]:
        if not isinstance(block, Item):
            last = len(text.rstrip("\n").split("\n"))
            raise PageFileError(file, last, f"after ## {SOURCES} only points of a list may come")
        cites.append(block.text)
    return Written(header, tuple(blocks[:at]), tuple(cites))


def parse_header(text: str, file: str) -> Header:
    """Return the header of a page without reading on."""
    values: dict[str, str] = {}
    key = ""
    lines = text.split("\n")
    if lines[0] != "---":
        raise PageFileError(file, 1, "a page begins with a line: ---")
    for number, line in enumerate(lines[1:], 2):
        if line == "---":
            return _header(values, number, file)
        if line.startswith(" ") and key:
            values[key] += " " + line.strip()
            continue
        if not line.strip():
            raise PageFileError(file, number, "the header does not end with a line: ---")
        key, colon, value = line.partition(":")
        if not colon or key not in KEYS:
            raise PageFileError(file, number, f"expected one of {', '.join(KEYS)} and a colon")
        if key in values:
            raise PageFileError(file, number, f"{key} is given twice")
        values[key] = value.strip()
    raise PageFileError(file, len(lines), "the header does not end with a line: ---")


def _header(values: dict[str, str], end: int, file: str) -> Header:
    for key in KEYS[:2]:
        if not values.get(key):
            raise PageFileError(file, end, f"the header has no {key}")
    aliases, see = (_names(values.get(key, "")) for key in KEYS[2:])
    return Header(values["title"], values["summary"], aliases, see, end)


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def parse_blocks(lines: Sequence[str], file: str, before: int = 0) -> list[PageBlock | Directive]:
    """Return the blocks of lines of text; `before` lines of the file stand above them."""
    blocks: list[PageBlock | Directive] = []
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        _refuse(lines[at], file, before + at + 1)
        if lines[at].startswith(_INDENT):
            end = _end_of_code(lines, at)
            blocks += _code([line[len(_INDENT) :] for line in lines[at:end]])
        elif lines[at].startswith("|"):
            end = _end(lines, at, lambda line: not line.startswith("|"))
            blocks.append(_table(lines[at:end], file, before + at + 1))
        else:
            end = at + 1 if lines[at].startswith("## ") else _end_of_words(lines, at)
            for number in range(at + 1, end):
                _refuse(lines[number], file, before + number + 1)
            blocks.append(_words([line.strip() for line in lines[at:end]], before + at + 1, file))
        at = end
    return blocks


def _end(lines: Sequence[str], at: int, stop: Callable[[str], bool]) -> int:
    """Return the number of the first line after `at` where something new begins."""
    return next((n for n in range(at + 1, len(lines)) if stop(lines[n])), len(lines))


def _end_of_words(lines: Sequence[str], at: int) -> int:
    """Return where a paragraph or a point ends."""
    return _end(
        lines,
        at,
        lambda line: (
            not line.strip() or _POINT.match(line) is not None or line.startswith(("## ", "|", "{"))
        ),
    )


def _end_of_code(lines: Sequence[str], at: int) -> int:
    """Return where indented lines end; an empty line between two of them belongs to them."""
    end = _end(lines, at, lambda line: bool(line) and not line.startswith(_INDENT))
    while not lines[end - 1].strip():
        end -= 1
    return end


def _refuse(line: str, file: str, number: int) -> None:
    """Raise where a line is Markdown that is not known here."""
    if "\t" in line:
        raise PageFileError(file, number, "there is a tab; use blanks")
    if line.startswith(_INDENT):
        return
    for pattern, why in _FOREIGN:
        if pattern.match(line):
            raise PageFileError(file, number, why)


def _words(lines: list[str], number: int, file: str) -> PageBlock | Directive:
    """Return the heading, directive, point or paragraph that some lines are."""
    text = " ".join(lines)
    if text.startswith("## "):
        return Heading(text[3:].strip())
    if text.startswith("{"):
        found = _DIRECTIVE.fullmatch(text)
        if found is None:
            raise PageFileError(file, number, "a directive is a line of its own: {word word}")
        return Directive(tuple(found[1].split()), number)
    point = _POINT.match(text)
    if point is None:
        return Text(text)
    rest = text[point.end() :]
    term = _TERM.match(rest)
    if term is None:
        return Item(rest, point[1])
    return Term(term[1], rest[term.end() :])


def _code(lines: list[str]) -> list[PageBlock]:
    """Return commands, each with what it shows, and the other lines of an indented part."""
    blocks: list[PageBlock] = []
    for line in lines:
        last = blocks[-1] if blocks else None
        if line.startswith("$ "):
            blocks.append(Command(line[2:].strip()))
        elif isinstance(last, Command) and line.startswith("# "):
            blocks[-1] = Command(last.command, f"{last.shows} {line[2:].strip()}".strip())
        elif isinstance(last, Code):
            blocks[-1] = Code((*last.lines, line.rstrip()))
        elif line.strip():
            blocks.append(Code((line.rstrip(),)))
    return [Code(_trimmed(b.lines)) if isinstance(b, Code) else b for b in blocks]


def _trimmed(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return lines without the empty ones at the end."""
    while not lines[-1]:
        lines = lines[:-1]
    return lines


def _table(lines: Sequence[str], file: str, number: int) -> PageTable:
    """Return the table that lines of `| cell | cell |` are; dashes stand under its head."""
    rows: list[tuple[str, ...]] = []
    for offset, line in enumerate(lines):
        text = line.rstrip()
        if not text.endswith("|") or len(text) < 2:
            raise PageFileError(file, number + offset, "a row of a table ends with |")
        cells = tuple(cell.strip() for cell in text[1:-1].split("|"))
        if rows and len(cells) != len(rows[0]):
            raise PageFileError(
                file,
                number + offset,
                f"this row has {len(cells)} cells, not {len(rows[0])} as the head has",
            )
        rows.append(cells)
    if len(rows) < 3 or not all(re.fullmatch("-+", cell) for cell in rows[1]):
        raise PageFileError(file, number, "a table has a head, a line of dashes, and rows")
    return PageTable((rows[0], *rows[2:]))
