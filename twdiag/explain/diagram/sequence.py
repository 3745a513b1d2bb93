"""Sequence charts: two ends, the segments between them, and the state of both after each."""

from __future__ import annotations

import enum
import re
import textwrap
from dataclasses import dataclass, replace
from typing import Final

from twdiag.explain.diagram.ink import MAX_WIDTH, label, to_ascii
from twdiag.tcp import State

_HERE: Final = "you are here"
_MARKS: Final = ("══► ", " ◄══")
_OTHER: Final = ": the other end"
_ROOMY: Final = 72
"""Columns from which on the words stand beside the mark; below, they stand under the chart."""

_NARROWEST: Final = 58
"""Columns below which two lifelines with their states do not fit."""

_LONGEST_STATE: Final = max(len(state.name) for state in State)


class ChartSide(enum.Enum):
    """One of the two ends of a sequence chart."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def other(self) -> ChartSide:
        """The end across the lane."""
        return ChartSide.RIGHT if self is ChartSide.LEFT else ChartSide.LEFT


class Fate(enum.Enum):
    """What becomes of a segment once it was sent."""

    ARRIVES = "arrives"
    LOST = "lost"
    DELAYED = "delayed"
    LATE = "arrives late"


@dataclass(frozen=True, slots=True)
class Arrow:
    """A segment on its way from one end to the other; LATE is the arrival of a DELAYED one."""

    sender: ChartSide
    text: str
    fate: Fate = Fate.ARRIVES


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two segments that pass each other on the way, each named by its text."""

    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Note:
    """Words beside the end where something happens, or in the middle of the lane."""

    text: str
    side: ChartSide | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Time that passes without a segment."""

    text: str


@dataclass(frozen=True, slots=True)
class ChartRow:
    """What happens in the lane, and the state of both ends after it.

    `mark` is the end that is "here"; a state that this end can only suppose gets a question mark.
    `pending` is what has not happened yet: dotted, its states in brackets.
    """

    what: Arrow | Crossing | Note | Pause
    left: State | None
    right: State | None
    mark: ChartSide | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A sequence chart: the names of two ends, and rows; the first row holds their states at first.

    A state is written where it changes and where it is marked, at the last line of its row.
    """

    left: str
    right: str
    rows: tuple[ChartRow, ...]


def sequence_chart(chart: Chart, *, ascii: bool = False, width: int = MAX_WIDTH) -> list[str]:
    """Draw a sequence chart: time runs downwards, states stand outside the two lifelines."""
    width = max(_NARROWEST, min(width, MAX_WIDTH))
    marks = {row.mark for row in chart.rows}
    here = _MARKS
    if width >= _ROOMY:
        here = f"{_HERE} {_MARKS[0]}", f"{_MARKS[1]} {_HERE}"
    before = len(here[0]) if ChartSide.LEFT in marks else 0
    after = len(here[1]) if ChartSide.RIGHT in marks else 0
    margin = before + _LONGEST_STATE + 2
    lane = width - margin - after - _LONGEST_STATE - 6
    lines = [_heading(chart, margin + 1, lane, width)]
    shown: tuple[State | None, State | None] | None = None
    for row in chart.rows:
        *first, last = _lane(row, lane)
        post = ":" if isinstance(row.what, Pause) else "│"
        left = _state(row, ChartSide.LEFT, here, shown is None or row.left is not shown[0])
        right = _state(row, ChartSide.RIGHT, here, shown is None or row.right is not shown[1])
        lines += [f"{'':{margin}} {post}{text}{post}" for text in first]
        lines.append(f"{left:>{margin}} {post}{last}{post} {right}".rstrip())
        shown = (row.left, row.right)
    if width < _ROOMY and (before or after):
        lines.append(f"{_MARKS[0].strip() if before else _MARKS[1].strip()} {_HERE}")
    return [to_ascii(line) for line in lines] if ascii else lines


def _state(row: ChartRow, side: ChartSide, here: tuple[str, str], changed: bool) -> str:
    """Return what stands at one end of a row: its state where that is news, and the mark."""
    name = label(row.left if side is ChartSide.LEFT else row.right)
    if row.pending:
        return f"({name})" if changed else ""
    if row.mark is side:
        return here[0] + name if side is ChartSide.LEFT else name + here[1]
    if row.mark is None:
        return name if changed else ""
    # The sender of a segment cannot know whether it arrived.
    sent = isinstance(row.what, Crossing) or (
        isinstance(row.what, Arrow) and row.what.sender is row.mark
    )
    return f"{name}?" if sent else name if changed else ""


def _heading(chart: Chart, left_post: int, lane: int, width: int) -> str:
    """Return the line with both names, each centred over its lifeline where there is room."""
    right_post = left_post + lane + 1
    for cut in ("", _OTHER):
        left, right = chart.left.removesuffix(cut), chart.right.removesuffix(cut)
        left_at = max(1, left_post - len(left) // 2)
        right_at = min(right_post - len(right) // 2, width - len(right))
        left_at = max(1, min(left_at, right_at - len(left) - 2))
        if left_at + len(left) < right_at:
            break
    return f"{'':{left_at}}{left:{right_at - left_at}}{right}"


def _lane(row: ChartRow, lane: int) -> list[str]:
    """Return the lines that a row takes between the lifelines, each as wide as the lane."""
    what = row.what
    if isinstance(what, Arrow):
        return _arrows(what, lane, dotted=row.pending)
    if isinstance(what, Crossing):
        return _crossing(what, lane, dotted=row.pending)
    if isinstance(what, Pause):
        return [f"{text:^{lane}}" for text in _wrapped(f"... {what.text} ...", lane)]
    texts = _wrapped(what.text, lane)
    if what.side is None:
        return [f"{text:^{lane}}" for text in texts]
    align = "<" if what.side is ChartSide.LEFT else ">"
    return [f" {text:{align}{lane - 2}} " for text in texts]


def _wrapped(text: str, lane: int) -> list[str]:
    return textwrap.wrap(text, lane - 2, break_on_hyphens=False) or [""]


def _arrows(arrow: Arrow, lane: int, *, dotted: bool) -> list[str]:
    """Return a segment's line, its numbers on lines above where the lane is too narrow."""
    longest = lane - len("── X lost") - 2 * (arrow.fate is not Fate.ARRIVES)
    kind = re.match(r"\d+  \S+(?= )", arrow.text)
    if len(arrow.text) <= longest or kind is None:
        return [_arrow(arrow, lane, dotted=dotted)]
    align = "<" if arrow.sender is ChartSide.LEFT else ">"
    rest = _wrapped(arrow.text[kind.end() :].strip(), lane)
    above = [f" {text:{align}{lane - 2}} " for text in rest]
    return [*above, _arrow(replace(arrow, text=kind[0]), lane, dotted=dotted)]


def _arrow(arrow: Arrow, lane: int, *, dotted: bool) -> str:
    """Return a segment's line, laid out from its sender and mirrored where that is the right."""
    late = arrow.fate is Fate.LATE
    stroke = "·" if dotted or late else "─"
    text = f" {arrow.text}, late " if late else f" {arrow.text} "
    head = {Fate.LOST: "X lost", Fate.DELAYED: "·· delayed"}.get(arrow.fate, "►")
    before = max(2, (lane - 1 - len(text)) // 2)
    after = max(1, lane - len(head) - before - len(text))
    if head != "►":
        before, after = max(2, before // 2), 1 if len(text) > lane // 2 else 2
    parts = [stroke * before, text, stroke * after, head]
    if arrow.sender is ChartSide.LEFT:
        return "".join(parts).ljust(lane)
    parts[-1] = {"►": "◄", "X lost": "lost X", "·· delayed": "delayed ··"}[head]
    return "".join(reversed(parts)).rjust(lane)


def _crossing(crossing: Crossing, lane: int, *, dotted: bool) -> list[str]:
    """Return three lines: both segments leave, pass each other in the middle, and arrive.

    Words that are too long for their half get a line of their own above.
    """
    stroke = "·" if dotted else "─"
    half = (lane - 3) // 2
    rest = lane - 3 - half
    left, right = f" {crossing.left} ", f" {crossing.right} "
    above = []
    if max(len(left), len(right)) > half - 4:
        above = [f" {text:{lane - 2}} " for text in _wrapped(crossing.left, lane)]
        above += [f" {text:>{lane - 2}} " for text in _wrapped(crossing.right, lane)]
        left = right = ""
    return [
        *above,
        f"{left:{stroke}^{half}}\\ /{right:{stroke}^{rest}}",
        f"{'':{half}} X {'':{rest}}",
        f"◄{stroke * (half - 1)}/ \\{stroke * (rest - 1)}►",
    ]
