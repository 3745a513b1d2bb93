"""Sets a page in lines of at most 80 columns: the same lines with and without colour."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import MAX_WIDTH, to_ascii
from twdiag.explain.page import (
    Code,
    Command,
    Drawing,
    Heading,
    Item,
    Page,
    PageKind,
    PageTable,
    Term,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.explain.library import IndexPart
    from twdiag.explain.page import PageBlock

_SAID: Final = (PageKind.SCENARIO, PageKind.TOPIC)
"""The kinds whose names need a line on what the page says."""

_SHORT: Final = 5
"""Letters of a word that is not left alone on the last line of a paragraph."""


@dataclass(frozen=True, slots=True)
class SetLine:
    """One line as it is printed; `style` names what it is: title, heading, command, drawing ..."""

    text: str
    style: str = ""


def set_page(page: Page, *, ascii: bool, width: int = MAX_WIDTH) -> list[SetLine]:
    """Return the lines of a page."""
    width = min(width, MAX_WIDTH)
    lines = [*_wrapped(page.title, width, style="title"), SetLine("")]
    lines += set_blocks(page.body, ascii=ascii, width=width)
    if page.see:
        text = "twdiag explain " + " | ".join(page.see)
        lines += [SetLine(""), SetLine("See also", "heading")]
        lines += _wrapped(text, width, "  ", "                 ", "see")
    if page.cites:
        lines += [SetLine(""), SetLine("Rests on", "heading")]
        for cite in page.cites:
            lines += _wrapped(cite, width, "  - ", "    ", "cite")
    return _plain(lines) if ascii else lines


def set_blocks(
    blocks: Iterable[PageBlock], *, ascii: bool = False, width: int = MAX_WIDTH
) -> list[SetLine]:
    """Return the lines of blocks, an empty line between those that are not one list."""
    lines: list[SetLine] = []
    before: PageBlock | None = None
    for block in blocks:
        together = isinstance(block, (Item, Command)) and type(block) is type(before)
        if before is not None and not together and not isinstance(before, Heading):
            lines.append(SetLine(""))
        lines += _set(block, ascii, width)
        before = block
    return lines


def set_index(groups: Iterable[IndexPart], *, ascii: bool, width: int = MAX_WIDTH) -> list[SetLine]:
    """Return the table of contents: every page in its group, topics with what they say."""
    width = min(width, MAX_WIDTH)
    lines = [
        SetLine("twdiag explain WORD: the handshake, drawn and told", "title"),
        SetLine("twdiag explain 'LINE OF A LOG': what its error means", "title"),
    ]
    for heading, entries in groups:
        lines += [SetLine(""), *_wrapped(heading, width, style="heading")]
        if entries[0].kind not in _SAID:
            names = "   ".join(entry.name for entry in entries)
            lines += _wrapped(names, width, "  ", "  ", "entry")
            continue
        column = max(len(entry.name) for entry in entries) + 4
        for entry in entries:
            head = f"  {entry.name:{column - 2}}"
            lines += _wrapped(entry.summary, width, head, " " * column, "entry")
    return _plain(lines) if ascii else lines


def _set(block: PageBlock, ascii: bool, width: int) -> list[SetLine]:
    """Return the lines of one block."""
    if isinstance(block, Heading):
        return _wrapped(block.text, width, style="heading")
    if isinstance(block, Text):
        return _wrapped(block.text, width, "  ", "  ")
    if isinstance(block, Item) and block.text.startswith("https://"):
        # A broken address is no address: it gets a line of its own, whatever its length.
        indent = " " * max(0, min(6, width - len(block.text)))
        return [SetLine(f"  {block.mark}"), SetLine(indent + block.text)]
    if isinstance(block, Item):
        head = f"  {block.mark} "
        return _wrapped(block.text, width, head, " " * len(head))
    if isinstance(block, Term):
        return [
            *_wrapped(block.term, width, "  ", "  ", "term"),
            *_wrapped(block.text, width, "      ", "      "),
        ]
    if isinstance(block, Command):
        shows = _wrapped(block.shows, width, "        ", "        ") if block.shows else []
        return [SetLine(f"    $ {block.command}", "command"), *shows]
    if isinstance(block, Code):
        return [SetLine(f"    {line}".rstrip(), "code") for line in block.lines]
    if isinstance(block, PageTable):
        return _table(block, width)
    assert isinstance(block, Drawing)
    return [SetLine(line, "drawing") for line in block.draw(ascii, width)]


def _table(table: PageTable, width: int) -> list[SetLine]:
    """Return a table whose cells are wrapped so that it fits; rows are apart where one wraps."""
    columns = _columns(table, width - 2)
    lines: list[SetLine] = []
    for number, row in enumerate(table.rows):
        cells = [
            textwrap.wrap(cell, column, break_on_hyphens=False) or [""]
            for cell, column in zip(row, columns, strict=True)
        ]
        height = max(map(len, cells))
        for line in range(height):
            words = (
                f"{cell[line] if line < len(cell) else '':{column}}"
                for cell, column in zip(cells, columns, strict=True)
            )
            lines.append(SetLine("  " + "  ".join(words).rstrip(), "" if number else "term"))
        if number == 0:
            lines.append(SetLine("  " + "  ".join("-" * column for column in columns)))
        elif number < len(table.rows) - 1 and _wraps(table, columns):
            lines.append(SetLine(""))
    return lines


def _wraps(table: PageTable, columns: list[int]) -> bool:
    """Return whether a cell below the head takes more than one line."""
    return any(
        len(cell) > column
        for row in table.rows[1:]
        for cell, column in zip(row, columns, strict=True)
    )


def _columns(table: PageTable, width: int) -> list[int]:
    """Return the width of each column: what it needs, the widest giving way until all fit."""
    needs = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    # A word that does not fit would be broken.
    least = [
        max(len(word) for cell in column for word in cell.split() or [""])
        for column in zip(*table.rows, strict=True)
    ]
    while sum(needs) + 2 * (len(needs) - 1) > width:
        slack = [need - low for need, low in zip(needs, least, strict=True)]
        widest = max(range(len(needs)), key=lambda n: (slack[n] > 0, needs[n]))
        if slack[widest] <= 0:
            break
        needs[widest] -= 1
    return needs


def _wrapped(
    text: str, width: int, first: str = "", rest: str = "", style: str = ""
) -> list[SetLine]:
    lines = _lines_of(text, width, first, rest)
    for narrower in range(width - 1, width - _SHORT - 4, -1):
        if len(lines) < 2 or not _is_widow(lines[-1]):
            break
        again = _lines_of(text, narrower, first, rest)
        if len(again) == len(lines) and not _is_widow(again[-1]):
            lines = again
    return [SetLine(line, style) for line in lines]


def _is_widow(line: str) -> bool:
    """Return whether a line is one short word, which looks lost below a paragraph."""
    return len(line.split()) == 1 and len(line.strip()) <= _SHORT


def _lines_of(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _plain(lines: list[SetLine]) -> list[SetLine]:
    """Return the lines in characters that every terminal has."""
    return [
        SetLine(to_ascii(line.text).encode("ascii", "replace").decode("ascii"), line.style)
        for line in lines
    ]
