"""The summary of ended connections as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.analysis.close_summary import band_of
from twdiag.render.cells import short_age
from twdiag.wording import count, endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twdiag.analysis.close_summary import CloseTally, Spread, TraceOutcome
    from twdiag.model.closes import Losses

_MOST_ROWS: Final = 10


def summary_lines(outcome: TraceOutcome) -> Iterator[str]:
    """Yield the summary as text, within 80 columns but for long addresses."""
    summary = outcome.summary
    total = summary.all
    yield ""
    yield f"{count(total.total, 'connection')} ended in {outcome.seconds:.1f} s"
    yield (
        f"Closed first: here {total.here:,}, the peer {total.peer:,}, both {total.both:,}"
        + (f", not known {total.unknown:,}" if total.unknown else "")
    )
    if summary.within:
        yield f"Within this host: {summary.within:,}; such a connection counts once for each end"
    yield from _ages("Lifetime", total.lived)
    yield from _ages("Idle before the close", total.idle)
    for title, groups in (
        ("By listener", [(_end(key), tally) for key, tally in summary.listeners]),
        ("By destination", [(_end(key), tally) for key, tally in summary.destinations]),
        (
            "By closing process",
            [(_others(key), tally) for key, tally in summary.processes],
        ),
    ):
        yield from _table(title, groups)
    yield from _told_not(outcome.losses)


def _table(title: str, groups: Sequence[tuple[str, CloseTally]]) -> Iterator[str]:
    if not groups:
        return
    yield ""
    head = f"{'ended':>7} {'here':>7} {'peer':>7} {'both':>4} {'RST':>6} {'timed':>5}"
    yield f"{title:24} {head} {'life':>6} {'idle':>6}"
    for name, tally in groups[:_MOST_ROWS]:
        numbers = (
            f"{tally.total:7,} {tally.here:7,} {tally.peer:7,} {tally.both:4,} {tally.resets:6,}"
            f" {tally.timeouts:5,}"
        )
        yield f"  {name:22} {numbers} {_median(tally.lived):>6} {_median(tally.idle):>6}"
    if len(groups) > _MOST_ROWS:
        rest = sum(tally.total for _, tally in groups[_MOST_ROWS:])
        yield f"  {f'{len(groups) - _MOST_ROWS:,} more':22} {rest:7,}"


def _ages(title: str, spread: Spread) -> Iterator[str]:
    if not spread.total:
        return
    parts = [f"{_band(band)} {number:,}" for band, number in enumerate(spread.counts) if number]
    line = f"{title}:"
    for part in parts:
        if len(line) + len(part) > 76:
            yield line
            line = "   "
        line += f"  {part}"
    yield line


def _told_not(losses: Losses) -> Iterator[str]:
    yield ""
    lost = []
    if losses.trace_events is not None:
        lost.append(count(losses.trace_events, "trace event"))
    if losses.announcements is not None:
        lost.append(count(losses.announcements, "announcement"))
    yield f"Lost: {', '.join(lost) or 'not known, this kernel does not count it'}"
    if losses.trace_events:
        yield "  Where trace events were lost, processes are missing, and who closed is inferred."
    if losses.announcements:
        yield "  Each lost announcement is a socket's end that is not told above."
    if losses.elsewhere:
        yield f"Of other network namespaces, not told: {count(losses.elsewhere, 'connection')}"
    if losses.unplaced:
        more = count(losses.unplaced, "connection")
        yield f"Ended with the descriptor open, in a namespace that is not known: {more}"


def _band(band: int) -> str:
    low, high = band_of(band)
    return f"over {short_age(low)}" if high is None else f"to {short_age(high)}"


def _median(spread: Spread) -> str:
    middle = spread.median
    if middle is None:
        return "-"
    low, high = middle
    return f">{short_age(low)}" if high is None else f"<{short_age(high)}"


def _end(key: tuple[str, int] | None) -> str:
    return "others" if key is None else endpoint(key[0], key[1]) if key[1] else f"{key[0]}, port ?"


def _others(key: str | None) -> str:
    return "others" if key is None else visible(key)
