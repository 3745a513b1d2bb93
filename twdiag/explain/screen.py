"""Prints set lines: styled by rich for a terminal, plain elsewhere; the characters are the same."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from twdiag.explain.layout import SetLine

_STYLES: Final = {
    "title": "bold",
    "heading": "bold cyan",
    "term": "bold",
    "command": "green",
    "code": "green",
    "drawing": "",
    "entry": "",
    "see": "cyan",
    "cite": "dim",
}
_HERE: Final = "you are here"
_LOUD: Final = {_HERE: "bold yellow", " lost": "bold red", "delayed": "yellow", ", late": "yellow"}


def plain(lines: Iterable[SetLine]) -> str:
    """Return the lines without colours."""
    return "".join(f"{line.text}\n" for line in lines)


def coloured(lines: Iterable[SetLine]) -> str:
    """Return the lines with the colours of a terminal; no character is added or left out."""
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", width=1000, highlight=False
    )
    for line in lines:
        text = Text(line.text, style=_STYLES.get(line.style, ""))
        if line.style == "drawing":
            for word, style in _LOUD.items():
                text.highlight_words([word], style)
        console.print(text, soft_wrap=True)
    return out.getvalue()


def write(lines: Iterable[SetLine], out: TextIO, *, color: bool) -> None:
    """Print lines."""
    out.write(coloured(lines) if color else plain(lines))
