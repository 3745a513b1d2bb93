"""Sets a page in lines of at most 80 columns: the same lines with and without colour."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import MAX_WIDTH, to_ascii
from twdiag.explain.page import Command, Drawing, Heading, Item, Kind, Page, Term, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.explain.page import Block

_GROUPS: Final = {
    Kind.STATE: "States (as in ss, netstat, the RFC or the kernel: TIME-WAIT, time_wait ...)",
    Kind.SCENARIO: "Scenarios, drawn and played step by step (--step walks)",
    Kind.TOPIC: "Topics",
    Kind.MYTH: "Myths, and how to see the truth on this host",
    Kind.RULE: "Rules of `twdiag diagnose`",
    Kind.SOFTWARE: "Server software",
}


_SAID: Final = (Kind.SCENARIO, Kind.TOPIC)
"""The kinds whose names need a line on what the page says."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is printed; `style` names what it is: title, heading, command, drawing ..."""

    text: str
    style: str = ""


def set_page(page: Page, *, ascii: bool, width: int = MAX_WIDTH) -> list[Line]:
    """Return the lines of a page."""
    width = min(width, MAX_WIDTH)
    lines = [*_wrapped(page.title, width, style="title"), Line("")]
    lines += set_blocks(page.body, ascii=ascii, width=width)
    if page.see:
        text = "twdiag explain " + " | ".join(page.see)
        lines += [Line(""), Line("See also", "heading")]
        lines += _wrapped(text, width, "  ", "                 ", "see")
    if page.cites:
        lines += [Line(""), Line("Rests on", "heading")]
        for cite in page.cites:
            lines += _wrapped(cite, width, "  - ", "    ", "cite")
    return _plain(lines) if ascii else lines


def set_blocks(
    blocks: Iterable[Block], *, ascii: bool = False, width: int = MAX_WIDTH
) -> list[Line]:
    """Return the lines of blocks, an empty line between those that are not one list."""
    lines: list[Line] = []
    before: Block | None = None
    for block in blocks:
        together = isinstance(block, (Item, Command)) and type(block) is type(before)
        if before is not None and not together and not isinstance(before, Heading):
            lines.append(Line(""))
        lines += _set(block, ascii, width)
        before = block
    return lines


def set_index(pages: Iterable[Page], *, ascii: bool, width: int = MAX_WIDTH) -> list[Line]:
    """Return the table of contents: every page by kind, with one line on what it says."""
    width = min(width, MAX_WIDTH)
    lines = [Line("twdiag explain WORD: the handshake, drawn and told", "title")]
    listed = list(pages)
    for kind, heading in _GROUPS.items():
        group = [page for page in listed if page.kind is kind]
        if not group:
            continue
        lines += [Line(""), Line(heading, "heading")]
        if kind not in _SAID:
            names = "   ".join(page.name for page in group)
            lines += _wrapped(names, width, "  ", "  ", "entry")
            continue
        column = max(len(page.name) for page in group) + 4
        for page in group:
            head = f"  {page.name:{column - 2}}"
            lines += _wrapped(page.summary, width, head, " " * column, "entry")
    return _plain(lines) if ascii else lines


def _set(block: Block, ascii: bool, width: int) -> list[Line]:
    """Return the lines of one block."""
    if isinstance(block, Heading):
        return _wrapped(block.text, width, style="heading")
    if isinstance(block, Text):
        return _wrapped(block.text, width, "  ", "  ")
    if isinstance(block, Item) and block.text.startswith("https://"):
        # A broken address is no address: it gets a line of its own, whatever its length.
        indent = " " * max(0, min(6, width - len(block.text)))
        return [Line(f"  {block.mark}"), Line(indent + block.text)]
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
        return [Line(f"    $ {block.command}", "command"), *shows]
    assert isinstance(block, Drawing)
    return [Line(line, "drawing") for line in block.draw(ascii, width)]


def _wrapped(text: str, width: int, first: str = "", rest: str = "", style: str = "") -> list[Line]:
    return [
        Line(line, style)
        for line in textwrap.wrap(
            text,
            width,
            initial_indent=first,
            subsequent_indent=rest,
            break_on_hyphens=False,
            break_long_words=False,
        )
    ]


def _plain(lines: list[Line]) -> list[Line]:
    """Return the lines in characters that every terminal has."""
    return [
        Line(to_ascii(line.text).encode("ascii", "replace").decode("ascii"), line.style)
        for line in lines
    ]
