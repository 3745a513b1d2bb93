"""The pages of the live screen: what Enter explains of a row, and the help."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from twdiag.render.full import full
from twdiag.render.live_rows import COLUMNS, HEADS, cells_of, name_of
from twdiag.render.pieces import Detail
from twdiag.wording import ss_address, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.engine.frames import Frame
    from twdiag.render.live_keys import About, Choice
    from twdiag.render.pieces import Line, Look

_HELP: Final = """\
 q            quit                       space   pause: the screen stands still
 j k, arrows  select a row               s       sort: largest, fastest, by name
 Enter        explain the selected row   /       show only rows with a text
 g G          the first, the last row    Esc     show all rows again
 r            forget gone rows and the last minute

 Rows keep their place, and stay when what they are about is gone.
 Rates are per second; "60 s" is the last minute, or less in the beginning.

 BUDGETS   what can run out: ports towards a destination, the TIME_WAIT table, descriptors,
           accept queues. FULL IN: when, if it goes on as now; - if it does not fill.
 OLDEST    the oldest of these sockets has waited at least so long for a close().
 SETTLES   where the TIME_WAITs settle if connections close as now: each lives a minute.
 HERE PEER connections a second that this end, or the peer, closed first; RST: reset.
 FIRST     closes a second with which the process was the first; AFTER: after the peer's.
"""


def page(frame: Frame, choice: Choice, look: Look, height: int) -> list[Line]:
    """Return the lines of the page that is open, from the line scrolled to, and its keys."""
    lines = list(_help(frame) if choice.about is None else _about(choice.about, frame, look))
    room = max(1, height - 1)
    first = max(0, min(choice.scroll, len(lines) - room))
    shown = lines[first : first + room]
    more = len(lines) - first - len(shown)
    keys = f" {more} lines more: j   any other key: back" if more else " any key: back"
    return [*shown, *[("", "")] * (room - len(shown)), (keys, "dim")]


def _help(frame: Frame) -> Iterator[Line]:
    yield "KEYS AND COLUMNS", "bold"
    for line in _HELP.splitlines():
        yield line, ""
    report = frame.report
    if frame.following.sentence:
        yield "", ""
        yield f" Closes: {visible(frame.following.sentence)}", ""
    for gap in report.gaps:
        how = f" ({visible(gap.how)})" if gap.how else ""
        yield f" Not seen: {visible(gap.why)}{how}", ""
    for skip in report.skipped:
        yield f" Not judged: {skip.rule}: {visible(skip.reason)}", ""


def _about(about: About, frame: Frame, look: Look) -> Iterator[Line]:
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
    report = replace(frame.report, findings=about.findings, gaps=(), skipped=())
    yield from full(report, replace(look, detail=Detail.FULL))


def _next_steps(about: About) -> Iterator[Line]:
    """Yield the commands that show more of a row."""
    for number, command in enumerate(_COMMANDS[about.part](about.row)):
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
    return [f"twdiag trace --process {row.name}"]


_COMMANDS: Final = {
    "budgets": _of_budget,
    "leaks": _of_leak,
    "closers": _of_closer,
    "processes": _of_process,
}
