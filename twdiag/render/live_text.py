"""The frames of `watch` where there is no terminal: one plain block each, never cut or wrapped."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from twdiag.model.snapshot import HOST_NETNS, LEFT_OUT
from twdiag.render.live import RATES, nothing_in, other_states, pace_of, time_wait_words
from twdiag.render.live_rows import COLUMNS, SINGULAR, UNKNOWN, cells_of, gone, name_of, speed
from twdiag.render.pieces import unseen_words
from twdiag.wording import count, duration, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from twdiag.engine.frames import Entry, Frame, PerSecond


def render_block(frame: Frame, out: TextIO) -> None:
    """Write a frame as lines that each begin with what they are about, and an empty line."""
    for line in block(frame):
        out.write(line + "\n")
    out.write("\n")


def block(frame: Frame) -> Iterator[str]:
    """Yield the lines of a frame; what is gone is left out."""
    report = frame.report
    moment = datetime.fromtimestamp(report.taken_at, tz=timezone.utc)
    where = visible(report.host.name)
    if report.netns != HOST_NETNS:
        where += f", namespace {visible(report.netns)}"
    status = report.status.label.upper()
    yield f"{moment:%Y-%m-%d %H:%M:%S} UTC  {where}  {status}  {pace_of(frame)}"
    yield f"states   {time_wait_words(frame)}; {', '.join(other_states(frame))}"
    yield f"rates    {', '.join(_rates(frame))}"
    for part, entries in frame.parts.items():
        there = [entry for entry in entries if entry.gone_at is None]
        for entry in there:
            yield f"{SINGULAR[part]:8} {_words(part, entry.row)}"
        if not there and part in ("findings", "processes"):
            yield f"{SINGULAR[part]:8} {nothing_in(frame, part)}"
    for gap in report.gaps:
        yield f"{'rules' if gap.what in LEFT_OUT else 'unseen':8} {unseen_words(gap)}"


def _rates(frame: Frame) -> Iterator[str]:
    """Yield "closed first here 19/s (60 s 2.0/s)", "opened out 20/s (60 s 20/s)" ..."""
    yield f"closed first here {_rate(frame.closing)}"
    for name, words in RATES:
        yield f"{words.lower().replace('rst', 'RST')} {_rate(frame.rates[name])}"


def _rate(found: PerSecond) -> str:
    if found.now is None:
        return UNKNOWN
    return f"{speed(found.now)}/s (60 s {speed(found.minute)}/s)"


def _words(part: str, row: Any) -> str:
    """Return a row with its cells in words."""
    values = zip(COLUMNS[part], cells_of(part, row), strict=True)
    words = [f"{column.head.lower()} {value}" for column, value in values]
    return ": ".join(filter(None, (name_of(part, row), ", ".join(words))))


def last_words(frame: Frame, seconds: float) -> Iterator[str]:
    """Yield what stays on the terminal when the screen is left: the states, the findings seen."""
    yield f"Watched for {duration(seconds)}: {time_wait_words(frame)}; {next(other_states(frame))}."
    most = 10
    for entry in frame.findings[:most]:
        yield _said(entry, frame)
    if len(frame.findings) > most:
        yield f"... and {count(len(frame.findings) - most, 'finding')} more: twdiag --brief"


def _said(entry: Entry[Any], frame: Frame) -> str:
    ended = gone(entry, frame)
    return name_of("findings", entry.row) + (f", {ended}" if ended else "")
