"""Pages that are made to answer a question: an error in a line, and the errors of many lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from twdiag.errors import UsageError
from twdiag.explain.messages import excerpt, found_in, port_in
from twdiag.explain.page import (
    Code,
    Command,
    Heading,
    Item,
    Page,
    PageBlock,
    PageKind,
    PageTable,
    Text,
)
from twdiag.wording import count, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twdiag.explain.messages import Message, Sighting

_TABLE: Final = "error-messages"
_ALL: Final = Command(f"twdiag explain {_TABLE}", "the whole table of errors")
_MOST: Final = 3
"""How many errors of one line are told."""

_COLUMNS: Final = 72
"""How much of a line is quoted: what fits into 80 columns."""

_BLANK: Final = dict.fromkeys(map(ord, "\t\n\r"), " ")
"""What a pasted stack trace has between its lines."""


def message_page(message: Message) -> Page:
    """Return what is known of an error."""
    body = (*_told(message), *_next([message]))
    return Page(message.name, PageKind.MESSAGE, message.error, message.who, body)


def line_page(line: str, found: Sequence[Sighting]) -> Page:
    """Return what the errors in a line mean; there is at least one."""
    told = [one.message for one in found[:_MOST]]
    port = port_in(line)
    if port is not None:
        told = [message.with_port(port) for message in told]
    quote = _quoted(line, found[0])
    blocks: list[PageBlock] = [] if quote == line.strip() and " " not in quote else [Code((quote,))]
    for message in told:
        blocks += [Heading(message.error)] if len(told) > 1 else []
        blocks += _told(message)
    title = told[0].error if len(told) == 1 else f"{len(told)} errors that this may mean"
    body = (*blocks, *_next(told))
    return Page(told[0].name, PageKind.MESSAGE, title, told[0].who, body)


def lines_page(lines: Iterable[str]) -> Page:
    """Return which errors many lines have, the most frequent first.

    Raises UsageError where no line has one that is known.
    """
    total = told = 0
    counted: Counter[str] = Counter()
    first: dict[str, tuple[Message, str]] = {}
    for line in lines:
        total += bool(line.strip())
        found = found_in(line)[:_MOST]
        told += bool(found)
        for one in found:
            counted[one.message.name] += 1
            first.setdefault(one.message.name, (one.message, _quoted(line, one)))
    if not told:
        what = f"no error that is known here in {count(total, 'line')}"
        raise UsageError(what, f"all that are: {_ALL.command}")
    body: list[PageBlock] = []
    for name, number in counted.most_common():
        message, quote = first[name]
        body += [Heading(f"{count(number, 'line')}: {message.error}"), Code((quote,))]
        body += [_said_by(message), Command(f"twdiag explain {name}")]
    title = f"{count(told, 'line')} of {total:,} with an error that is known here"
    return Page("lines", PageKind.MESSAGE, title, title, (*body, Heading("Next"), _ALL))


def table_of(messages: Iterable[Message]) -> PageTable:
    """Return errors as a table: what is written, who said no, and the name that tells more."""
    rows = [(one.error, one.who, one.name) for one in messages]
    return PageTable((("error", "who said no", "twdiag explain"), *rows))


def _told(message: Message) -> list[PageBlock]:
    return [_said_by(message), Text(message.means)]


def _said_by(message: Message) -> Item:
    return Item(message.who, "Said by:")


def _quoted(line: str, found: Sighting) -> str:
    """Return the part of a line with an error, safe for a terminal; what breaks lines is blank."""
    return visible(excerpt(line.translate(_BLANK), found, _COLUMNS))[:_COLUMNS]


def _next(messages: Sequence[Message]) -> list[PageBlock]:
    """Return what to type next; nothing for what is outside of this program."""
    if all(message.group == "outside" for message in messages):
        return []
    shows: dict[str, list[str]] = {}
    for message in messages:
        if message.run:
            shows.setdefault(message.run, []).append(message.shows)
    looks = [Command(run, "; ".join(dict.fromkeys(told))) for run, told in shows.items()]
    reads = [message.read for message in messages if message.read not in ("", _TABLE)]
    pages = [Command(f"twdiag explain {name}") for name in dict.fromkeys(reads)]
    return [Heading("Next"), *looks, *pages, _ALL]
