"""The pages of the live screen: what Enter explains of a row, and the help."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from twdiag.analysis.elsewhere import moved
from twdiag.model.snapshot import LEFT_OUT
from twdiag.render.full import full
from twdiag.render.live_rows import COLUMNS, HEADS, cells_of, name_of
from twdiag.render.pieces import Detail, unseen_words
from twdiag.wording import quoted, ss_address, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.engine.frames import Frame
    from twdiag.render.live_keys import About, Choice
    from twdiag.render.pieces import Look, StyledLine

_KEYS: Final = (
    ("q", "quit"),
    ("space", "pause: the screen stands still, and is watched on"),
    ("j k, arrows", "select a row; g and G the first and the last, PgUp and PgDn ten on"),
    ("Enter", "explain the selected row"),
    ("s", "sort anew: the largest, the fastest, by name, as they came"),
    ("/", "show only rows with a text; Esc shows all again"),
    ("r", "reset: forget the rows that are gone, and the last minute"),
)
_MEANINGS: Final = (
    ("GROWS", "how many more are used each second"),
    ("NOW", "how many wait for a close(); or closes a second, in the last few seconds"),
    ("60 S", "how many more wait than a minute ago, or closes a second in this minute"),
    ("FULL IN", "when, if it goes on as now; - where it does not fill"),
    ("OLDEST", "for how long at least the oldest of them waits for a close()"),
    ("WHY", "what most of them show: not closed, not read, never accepted, idle"),
    ("SETTLES", "where its TIME_WAITs settle if it goes on as now: each lives a minute"),
    ("HERE, PEER", "connections a second that this end, or the peer, closed first"),
    ("RST", "connections a second that a reset ended"),
    ("FIRST, AFTER", "closes a second of the process: the first one, or after the peer's"),
)


def page(frame: Frame, choice: Choice, look: Look, height: int) -> list[StyledLine]:
    """Return the lines of the page that is open, from the line scrolled to, and its keys."""
    lines = list(_help(frame, look) if choice.about is None else _about(choice.about, frame, look))
    room = max(1, height - 1)
    first = max(0, min(choice.scroll, len(lines) - room))
    shown = lines[first : first + room]
    more = len(lines) - first - len(shown)
    keys = f" {more} lines more: j   any other key: back" if more else " any key: back"
    return [*shown, *[("", "")] * (room - len(shown)), (keys, "dim")]


def _help(frame: Frame, look: Look) -> Iterator[StyledLine]:
    for title, items in (("KEYS", _KEYS), ("COLUMNS", _MEANINGS)):
        yield title, "bold"
        for name, meaning in items:
            yield from _item(name, meaning, look)
    yield from _item("", "A row keeps its place, and stays when what it is about is gone.", look)
    yield from _not_seen(frame, look)


def _item(name: str, text: str, look: Look) -> Iterator[StyledLine]:
    width = max(30, look.width or 80)
    for line in textwrap.wrap(
        text, width, initial_indent=f" {name:12} ", subsequent_indent=" " * 14
    ):
        yield line, ""


def _not_seen(frame: Frame, look: Look) -> Iterator[StyledLine]:
    """Yield all that the screen has no room for: what was not seen, and why."""
    report = frame.report
    if frame.following.sentence or report.gaps or report.skipped:
        yield "NOT SEEN", "bold"
    if frame.following.sentence:
        yield from _item("", visible(frame.following.sentence), look)
    for gap in report.gaps:
        yield from _item("rules" if gap.what in LEFT_OUT else "", unseen_words(gap), look)
    for skip in report.skipped:
        yield from _item("", f"{skip.rule} is not judged: {visible(skip.reason)}", look)


def _about(about: About, frame: Frame, look: Look) -> Iterator[StyledLine]:
    """Yield what is known of a row: its numbers, what to run next, and its findings in full."""
    if about.part != "findings":
        yield f"{HEADS[about.part]}: {name_of(about.part, about.row)}", "bold"
        yield "", ""
        heads = (column.head for column in COLUMNS[about.part])
        for head, value in zip(heads, cells_of(about.part, about.row), strict=True):
            yield f"  {head.lower():10} {value}", ""
        yield "", ""
        yield from _next_steps(about)
    if not about.findings:
        yield "  No rule finds anything wrong with it now.", ""
        return
    report = frame.report._replace(findings=about.findings, gaps=(), skipped=())
    yield from full(report, replace(look, detail=Detail.FULL))


def _next_steps(about: About) -> Iterator[StyledLine]:
    """Yield the commands that show more of a row."""
    for number, command in enumerate(_COMMANDS[about.part](about.row)):
        if about.namespace is not None:
            command = moved(command, about.namespace)
        yield f"  {'' if number else 'now':10} {visible(command)}", "bold"
    yield "", ""


def _of_budget(row: Any) -> list[str]:
    if row.kind == "ports":
        return [f"ss -tan dport = :{row.port}", "twdiag explain ports-running-out"]
    if row.kind == "time-wait":
        return ["ss -tan state time-wait", "twdiag explain TIME_WAIT"]
    if row.kind == "accept-queue":
        return [f"ss -tlnp sport = :{row.port}", "twdiag explain accept-queue-full"]
    if row.kind == "descriptors":
        return ["twdiag explain fd-limit-near"]
    return ["ss -tan state fin-wait-1", "twdiag explain orphans"]


def _of_leak(row: Any) -> list[str]:
    pids = "".join(f" | grep pid={pid}," for pid in row.pids[:1])
    return [f"ss -tanpo state close-wait{pids}", "twdiag explain CLOSE_WAIT"]


def _of_closer(row: Any) -> list[str]:
    if row.kind == "client":
        address = row.name.rpartition(":")[0].strip("[]")
        return [
            f"ss -tan dst {ss_address(address)} dport = :{row.port}",
            f"twdiag trace --port {row.port}",
        ]
    return [f"ss -tan sport = :{row.port}", f"twdiag trace --port {row.port}"]


def _of_process(row: Any) -> list[str]:
    name = row.name if visible(row.name) == row.name or not row.pids else str(row.pids[0])
    return [f"twdiag trace --process {quoted(name)}"]


_COMMANDS: Final = {
    "budgets": _of_budget,
    "leaks": _of_leak,
    "closers": _of_closer,
    "processes": _of_process,
}
