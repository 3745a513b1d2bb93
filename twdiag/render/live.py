"""The live screen: a frame and what was chosen in, lines out that fit any terminal.

Head, the rows of five parts, and the keys.  Where the rows do not fit, each part keeps some and
says how many there are; the selected one is always among them.
"""

from __future__ import annotations

import textwrap
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from twdiag.model import facts
from twdiag.model.snapshot import HOST_NETNS
from twdiag.render import cells
from twdiag.render.live_keys import SORTS, selected, shown
from twdiag.render.live_rows import COLUMNS, HEADS, cells_of, columns_that_fit, gone, name_of, speed
from twdiag.render.pieces import AS_SEEN, STYLES, is_blind, sparkline, unseen_label
from twdiag.tcp import State
from twdiag.wording import count, duration, share, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twdiag.engine.frames import Entry, Frame
    from twdiag.render.live_keys import Choice, RowPlace
    from twdiag.render.pieces import Look, StyledLine

_NARROWEST: Final = 20
_TALL: Final = 20
"""Lines from which on the head has a table of rates; below, each line goes to the rows."""

_ALWAYS: Final = 0.95
"""The share of time that counts as all of it: opening the source takes a little."""

_MARK: Final = 2
_LEAST_NAME: Final = 34
RATES: Final = (
    ("opened_out", "OPENED OUT"),
    ("opened_in", "OPENED IN"),
    ("failed", "FAILED"),
    ("resets_sent", "RST SENT"),
    ("aborted", "ABORTED"),
    ("dropped", "DROPPED"),
)
"""The rates of the head and their titles: connect() and accept() done, connect() failed, resets
sent, connections aborted here, SYNs dropped by full accept queues."""

_SHORT_HEADS: Final = {"OPENED OUT": "OUT", "OPENED IN": "IN", "RST SENT": "RST"}
"""Titles for a narrow screen: a blank has to stay between two of them."""


def live(frame: Frame, choice: Choice, look: Look) -> list[StyledLine]:
    """Return the lines of the screen: `look.height` of them at most, none wider than its width."""
    width, height = max(_NARROWEST, look.width or 80), look.height or 24
    if choice.on_page:
        from twdiag.render.live_pages import page

        lines = page(frame, choice, look, height)
    else:
        head = [*_head(frame, choice, look, width), *_numbers(frame, look, width, height)]
        foot = [*_unseen(frame, width), (_keys(choice, width), "dim")]
        if len(head) + len(foot) > height:
            foot = foot[-1:]
            head = head[: height - 1]
        room = height - len(head) - len(foot)
        rows = _rows(frame, choice, look, width, room)
        lines = [*head, *rows, *[("", "")] * (room - len(rows)), *foot]
    return [(cells.cut(_plain(text, look), width).rstrip(), style) for text, style in lines]


def _plain(text: str, look: Look) -> str:
    return text if look.unicode else text.encode("ascii", "backslashreplace").decode()


# The head.


def _head(frame: Frame, choice: Choice, look: Look, width: int) -> Iterator[StyledLine]:
    report = frame.report
    moment = datetime.fromtimestamp(report.taken_at, tz=timezone.utc)
    where = visible(report.host.name)
    if report.netns != HOST_NETNS:
        where += f", namespace {visible(report.netns)}"
    words = [report.status.label.upper(), f"{moment:%H:%M:%S} UTC", where, pace_of(frame)]
    if choice.paused:
        words.insert(1, "PAUSED, space goes on")
    yield "  ".join(words), "bold reverse" if choice.paused else STYLES[report.status]


def pace_of(frame: Frame) -> str:
    """Return how often it looks and what that costs: "every 1 s, 0.8 % of a core"."""
    cost = frame.cost
    every = f"{cost.interval:.1f}".removesuffix(".0")
    if cost.slowed:
        return f"every {every} s: slowed, to take 5 % of a core at most"
    return f"every {every} s" + (f", {share(cost.share)} of a core" if cost.share else "")


def _numbers(frame: Frame, look: Look, width: int, height: int) -> Iterator[StyledLine]:
    yield _states(frame, width), ""
    yield _closes(frame, look, width), ""
    if height >= _TALL:
        yield from _table_of_rates(frame, width)
    yield "", ""


def time_wait_words(frame: Frame) -> str:
    """Return "TIME_WAIT 518 of 131,072, settles at 620"."""
    text = f"TIME_WAIT {frame.time_wait:,}"
    if frame.limit is not None:
        text += f" of {frame.limit:,}"
    if frame.settles_at is not None:
        text += f", settles at {frame.settles_at:,}"
    return text


def other_states(frame: Frame) -> Iterator[str]:
    """Yield "CLOSE_WAIT 70 (+2 in 60 s)", "ESTABLISHED 12" ...: the states but TIME_WAIT."""
    states = frame.report.states
    grown = ""
    if frame.close_wait_grown and frame.seconds >= 1:
        grown = f" ({frame.close_wait_grown:+,} in {duration(frame.seconds)})"
    yield f"CLOSE_WAIT {states.get(State.CLOSE_WAIT, 0):,}{grown}"
    for state, number in sorted(states.items(), key=lambda item: (-item[1], item[0])):
        if state not in (State.TIME_WAIT, State.CLOSE_WAIT):
            yield f"{state.name} {number:,}"


def _states(frame: Frame, width: int) -> str:
    text = f" {time_wait_words(frame)}"
    for words in other_states(frame):
        for fitting in (words, words.partition(" (")[0]):
            if len(text) + len(fitting) + 3 <= width:
                text += f"   {fitting}"
                break
    return text


def _closes(frame: Frame, look: Look, width: int) -> str:
    closing = frame.closing
    text = f" Closed first here, per second: now {speed(closing.now)}, 60 s {speed(closing.minute)}"
    if width < len(text) + 24:
        text = f" Closes/s now {speed(closing.now)}, 60 s {speed(closing.minute)}"
    room, history = min(60, width - len(text) - 3), frame.report.closes
    if history is None or room < 10:
        return text
    step = -(-len(history) // room)
    sums = [sum(history[at : at + step]) for at in range(0, len(history), step)]
    return f"{text}  {sparkline(sums, unicode=look.unicode)}"


def _table_of_rates(frame: Frame, width: int) -> Iterator[StyledLine]:
    names = [name for name, _ in RATES]
    room = max(8, min(12, (width - 12) // len(RATES)))
    heads = [head if len(head) < room else _SHORT_HEADS.get(head, head) for _, head in RATES]
    yield " PER SECOND " + "".join(cells.right(head, room) for head in heads), "bold"
    for title, values in (
        ("now", [frame.rates[name].now for name in names]),
        ("60 s", [frame.rates[name].minute for name in names]),
    ):
        yield f"   {title:9}" + "".join(cells.right(speed(v), room) for v in values), ""


# The rows.


def _rows(frame: Frame, choice: Choice, look: Look, width: int, room: int) -> list[StyledLine]:
    """Return the lines of the parts, at most so many."""
    parts, place = shown(frame, choice), selected(frame, choice)
    notes = {part: _note(frame, choice, part, width) for part, found in parts.items() if not found}
    wanted = {part: len(found) or len(notes[part]) - 1 for part, found in parts.items()}
    lines: list[StyledLine] = []
    for part, number in shared_out(wanted, room, place).items():
        entries = parts[part]
        if not entries:
            lines += [
                (text, "" if n else "bold") for n, text in enumerate(notes[part][: 1 + number])
            ]
            continue
        at = _number_of(entries, part, place)
        first = max(0, min(at - number // 2, len(entries) - number))
        lines.append(_heading(frame, part, entries, number, width))
        for entry in entries[first : first + number]:
            lines.append(_row(frame, part, entry, (part, entry.key) == place, look, width))
    return lines


def _note(frame: Frame, choice: Choice, part: str, width: int) -> list[str]:
    """Return the lines of a part without rows: why it has none."""
    why = "none with this text" if choice.filter and frame.parts[part] else nothing_in(frame, part)
    return textwrap.wrap(f"{HEADS[part]}  {why}", width, subsequent_indent="  ") or [HEADS[part]]


def shared_out(wanted: Mapping[str, int], room: int, place: RowPlace | None) -> dict[str, int]:
    """Return how many rows each part shows, beside a line for its head; room goes to the needy.

    A part without room for a row is left out, the last ones first, but never the selected one.
    """
    parts = list(wanted)
    own = place[0] if place else ""
    least = {part: 1 + min(1, wanted[part]) for part in parts}
    while parts and sum(least[part] for part in parts) > room:
        spare = [part for part in parts if part != own]
        parts.remove(spare[-1] if spare else own)
    given = {part: min(1, wanted[part]) for part in parts}
    left = room - sum(1 + number for number in given.values())
    while left > 0 and (needy := [part for part in parts if given[part] < wanted[part]]):
        poorest = min(needy, key=lambda part: given[part])
        given[poorest] += 1
        left -= 1
    return given


def _number_of(entries: Sequence[Entry[Any]], part: str, place: RowPlace | None) -> int:
    if place is None or place[0] != part:
        return 0
    return next((n for n, entry in enumerate(entries) if entry.key == place[1]), 0)


def _heading(
    frame: Frame, part: str, entries: Sequence[Entry[Any]], number: int, width: int
) -> StyledLine:
    title = HEADS[part]
    if part == "processes":
        title += followed(frame)
    if number < len(entries):
        title += f"  {number} of {len(entries)}"
    kept = columns_that_fit(part, width - _MARK, _LEAST_NAME)
    columns = [COLUMNS[part][n] for n in kept]
    room = width - sum(column.width + 1 for column in columns)
    heads = "".join(" " + cells.right(column.head, column.width) for column in columns)
    return cells.left(title, room) + heads, "bold"


def nothing_in(frame: Frame, part: str) -> str:
    """Return why a part has no row."""
    following = frame.following
    hidden = frame.report.facts.get(facts.HIDDEN)
    if part == "findings" and hidden:
        worst = frame.report.facts.get(facts.HIDDEN_WORST)
        others = count(int(str(hidden)), "other")
        return f"no finding matches the filter; {others} left out, the worst {worst}"
    if part == "findings":
        return "nothing wrong" + (AS_SEEN if is_blind(frame.report) else "")
    if part == "processes":
        if not following.source.startswith("tracefs"):
            return f"not seen: {visible(following.sentence)}"
        if following.share < _ALWAYS:
            return "not seen yet: too many connections end to follow all of them"
        return "nobody yet"
    return "none"


def followed(frame: Frame) -> str:
    """Return what is missing of the ends that were followed: time, or lost events."""
    following = frame.following
    words = []
    if following.source and following.share < _ALWAYS:
        words.append(f"{share(following.share)} of the time")
    if following.lost:
        words.append(f"{following.lost:,} events lost")
    return f" ({', '.join(words)})" if words else ""


def _row(
    frame: Frame, part: str, entry: Entry[Any], is_selected: bool, look: Look, width: int
) -> StyledLine:
    mark = "> " if is_selected else "  "
    kept = columns_that_fit(part, width - _MARK, _LEAST_NAME)
    columns = [COLUMNS[part][n] for n in kept]
    found = cells_of(part, entry.row)
    values = [found[n] for n in kept]
    ended = gone(entry, frame)
    name = _plain(name_of(part, entry.row), look)  # before it is measured: it gets longer
    if ended:
        name = f"{ended}: {name}"
    room = width - _MARK - sum(column.width + 1 for column in columns)
    text = mark + cells.left(name, room)
    for column, value in zip(columns, values, strict=True):
        text += " " + cells.right(value, column.width)
    return text, _style(part, entry, is_selected)


def _style(part: str, entry: Entry[Any], is_selected: bool) -> str:
    style = STYLES[entry.row.severity] if part == "findings" else ""
    if entry.gone_at is not None:
        style = "dim"
    return f"{style} reverse".strip() if is_selected else style


# The foot.


def _unseen(frame: Frame, width: int) -> Iterator[StyledLine]:
    """Yield one line on what was not seen; the page of ? has all of it."""
    gaps = frame.report.gaps
    if gaps:
        why = f" {unseen_label(gaps[0])}: {visible(gaps[0].why)}"
        how = f" ({visible(gaps[0].how)})" if gaps[0].how else ""
        more = f", and {len(gaps) - 1} more: ?" if len(gaps) > 1 else ""
        if cells.width_of(why + how + more) > width:
            how, more = "", "  ? says all"
            why = cells.cut(why, width - len(more))
        yield why + how + more, "dim"


def _keys(choice: Choice, width: int) -> str:
    if choice.typing:
        return f" /{visible(choice.filter)}_   Enter keeps it, Esc shows all"
    told = [SORTS[choice.sort]] if choice.sort else []
    if choice.filter:
        told.append(f"only {visible(choice.filter)!r}, Esc shows all")
    # The ways out stay however narrow it is: of the filter, of the screen, and to all other keys.
    for shown_first in (told, told[-1:], ["Esc all"] if choice.filter else [], []):
        words = [*shown_first, "q quit", "? help"]
        if len(_in_one_line(words)) <= width:
            break
    for word in ("space pause", "s sort", "/ filter", "Enter explain", "r reset"):
        more = [*words[:-1], word, words[-1]]
        if len(_in_one_line(more)) > width:
            break
        words = more
    return _in_one_line(words)


def _in_one_line(words: Sequence[str]) -> str:
    return " " + "   ".join(words)
