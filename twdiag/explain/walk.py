"""Walks through a story one key at a time: each frame shows the chart so far and the reason."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import MAX_WIDTH, label, sequence_chart, to_ascii
from twdiag.explain.layout import SetLine, set_blocks
from twdiag.explain.page import Text
from twdiag.explain.story import played

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from twdiag.explain.page import Page
    from twdiag.explain.story import Story

_BACK: Final = ("b", "p", "k", "h", "\x7f", "\x1b[D", "\x1b[A")
_QUIT: Final = ("q", "Q", "\x1b", "\x04", "")
_CLEAR: Final = "\x1b[H\x1b[2J"


def frame(
    page: Page,
    story: Story,
    at: int,
    *,
    ascii: bool,
    height: int,
    width: int = MAX_WIDTH,
) -> list[SetLine]:
    """Return what is shown after `at` steps (0: the beginning), not taller than the terminal."""
    play = played(story)
    if at:
        step = play.steps[at - 1]
        words = f"{step.title}: {step.why}" if step.why else step.title
    else:
        words = page.summary
    head = [SetLine(page.title, "title"), SetLine("")]
    ends = zip((story.left, story.right), play.states_after(at), strict=True)
    now = ", ".join(f"{name.partition(' (')[0]}: {label(state)}" for name, state in ends)
    tail = [
        SetLine(""),
        *set_blocks([Text(words)], width=min(width, MAX_WIDTH)),
        SetLine(""),
        SetLine(f"  now {now}", "term"),
    ]
    last = "the end" if at == len(play.steps) else "any key: next"
    tail.append(SetLine(f"  {at}/{len(play.steps)}  {last}, b: back, q: quit", "heading"))
    names, *rows = sequence_chart(play.chart(at), ascii=ascii, width=width)
    # One line for the names, and one for the cursor.
    room = max(3, height - len(head) - len(tail) - 2)
    chart = [SetLine(row, "drawing") for row in (names, *rows[-room:])]
    lines = [*head, *chart, *tail]
    return [SetLine(to_ascii(line.text), line.style) for line in lines] if ascii else lines


def walk(
    page: Page,
    story: Story,
    show: Callable[[list[SetLine]], None],
    read_key: Callable[[], str],
    *,
    ascii: bool,
    width: int = MAX_WIDTH,
) -> None:
    """Show frame after frame until the reader quits or goes on after the last one."""
    at, steps = 0, len(played(story).steps)
    while True:
        show(
            frame(
                page,
                story,
                at,
                ascii=ascii,
                height=shutil.get_terminal_size().lines,
                width=width,
            )
        )
        key = read_key()
        if key in _QUIT or (at == steps and key not in _BACK):
            return
        at = max(0, at - 1) if key in _BACK else at + 1


def clear(out: TextIO) -> None:
    """Empty the screen, where the terminal can do that."""
    out.write("\n" if os.environ.get("TERM") == "dumb" else _CLEAR)


@contextlib.contextmanager
def keyboard(descriptor: int) -> Iterator[Callable[[], str]]:
    """Give a function that reads one key; the terminal is as it was afterwards, come what may."""
    import select
    import termios
    import tty

    before = termios.tcgetattr(descriptor)

    def read_key() -> str:
        # A key such as an arrow comes as several bytes at once.
        first = os.read(descriptor, 1)
        while first.startswith(b"\x1b") and select.select([descriptor], [], [], 0.05)[0]:
            more = os.read(descriptor, 8)
            if not more:
                break
            first += more
        return first.decode("utf-8", "replace")

    try:
        # cbreak keeps Ctrl-C working; nothing is echoed.
        tty.setcbreak(descriptor)
        yield read_key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
