"""The state diagram of TCP as Linux runs it, with "you are here" at one state."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from twdiag.explain.diagram.ink import MAX_WIDTH, label, to_ascii
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.tcp.segments import Event
from twdiag.tcp.transitions import TRANSITIONS, Transition, transition

WIDTH: Final = 76
"""Columns that the state diagram takes, whatever the terminal has."""

_BOX: Final = 16
_HERE: Final = " you are here "

_PLACES: Final[tuple[tuple[State, int, int], ...]] = (
    (State.CLOSE, 30, 0),
    (State.LISTEN, 1, 3),
    (State.SYN_SENT, 59, 3),
    (State.SYN_RECV, 1, 7),
    (State.ESTABLISHED, 30, 7),
    (State.FIN_WAIT1, 1, 11),
    (State.CLOSING, 30, 11),
    (State.CLOSE_WAIT, 59, 11),
    (State.FIN_WAIT2, 1, 16),
    (State.TIME_WAIT, 30, 16),
    (State.LAST_ACK, 59, 16),
    (State.CLOSE, 30, 20),
)
"""Where the boxes stand (column, line); CLOSED is drawn twice, as the beginning and as the end."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """How one transition is drawn: the corners of its line, and where its words begin."""

    before: State
    event: Event
    corners: tuple[tuple[int, int], ...]
    words: tuple[int, int]


_EDGES: Final[tuple[_Edge, ...]] = (
    _Edge(State.CLOSE, Event.PASSIVE_OPEN, ((30, 1), (8, 1), (8, 3)), (14, 1)),
    _Edge(State.CLOSE, Event.ACTIVE_OPEN, ((45, 1), (67, 1), (67, 3)), (48, 1)),
    _Edge(State.LISTEN, Event.RECEIVE_SYN, ((8, 5), (8, 7)), (10, 6)),
    _Edge(State.SYN_SENT, Event.RECEIVE_SYN_ACK, ((67, 5), (67, 8), (46, 8)), (50, 8)),
    _Edge(State.SYN_RECV, Event.RECEIVE_ACK_OF_SYN, ((16, 8), (29, 8)), (18, 8)),
    _Edge(State.ESTABLISHED, Event.CLOSE, ((33, 9), (33, 10), (8, 10), (8, 11)), (11, 10)),
    _Edge(State.ESTABLISHED, Event.RECEIVE_FIN, ((42, 9), (42, 10), (67, 10), (67, 11)), (50, 10)),
    _Edge(State.FIN_WAIT1, Event.RECEIVE_FIN, ((16, 12), (29, 12)), (18, 12)),
    _Edge(State.FIN_WAIT1, Event.RECEIVE_ACK_OF_FIN, ((8, 13), (8, 16)), (10, 15)),
    _Edge(
        State.FIN_WAIT1,
        Event.RECEIVE_FIN_AND_ACK_OF_FIN,
        ((14, 13), (14, 14), (33, 14), (33, 16)),
        (18, 14),
    ),
    _Edge(State.CLOSING, Event.RECEIVE_ACK_OF_FIN, ((42, 13), (42, 16)), (44, 15)),
    _Edge(State.CLOSE_WAIT, Event.CLOSE, ((67, 13), (67, 16)), (49, 14)),
    _Edge(State.FIN_WAIT2, Event.RECEIVE_FIN, ((16, 17), (29, 17)), (18, 17)),
    _Edge(State.FIN_WAIT2, Event.FIN_WAIT2_EXPIRES, ((8, 18), (8, 21), (29, 21)), (11, 21)),
    _Edge(State.TIME_WAIT, Event.TIME_WAIT_EXPIRES, ((38, 18), (38, 20)), (40, 19)),
    _Edge(State.LAST_ACK, Event.RECEIVE_ACK_OF_FIN, ((67, 18), (67, 21), (46, 21)), (51, 21)),
)

DRAWN: Final[tuple[tuple[State, Event], ...]] = tuple((e.before, e.event) for e in _EDGES)
"""The transitions in the diagram; the others are repeats, resets, refusals and give-ups."""


def left_out() -> tuple[Transition, ...]:
    """Return the ways from one state to another that Linux has and the diagram does not draw."""
    return tuple(
        move
        for move in TRANSITIONS
        if move.linux
        and move.before is not move.after
        and (move.when or (move.before, move.event) not in DRAWN)
    )


_EVENTS: Final = {
    Event.PASSIVE_OPEN: "listen()",
    Event.ACTIVE_OPEN: "connect()",
    Event.RECEIVE_SYN: "SYN",
    Event.RECEIVE_SYN_ACK: "SYN,ACK",
    Event.RECEIVE_ACK_OF_SYN: "ACK of SYN",
    Event.CLOSE: "close()",
    Event.RECEIVE_FIN: "FIN",
    Event.RECEIVE_ACK_OF_FIN: "ACK of FIN",
    Event.RECEIVE_FIN_AND_ACK_OF_FIN: "FIN+ACK",
    Event.FIN_WAIT2_EXPIRES: "tcp_fin_timeout",
    Event.TIME_WAIT_EXPIRES: f"{TIME_WAIT_SECONDS} s",
}


def state_diagram(
    mark: State | None = None, *, ascii: bool = False, width: int = MAX_WIDTH
) -> list[str]:
    """Draw the state diagram; a marked state has a double frame that says "you are here".

    It is WIDTH columns wide; a wider `width` (up to 80) centres it, and a narrower one gets the
    same arrows as a list.
    """
    if width < WIDTH:
        lines = _listed(mark)
        return [to_ascii(line) for line in lines] if ascii else lines
    sheet = [[" "] * WIDTH for _ in range(max(y for _, _, y in _PLACES) + 3)]
    for state, x, y in _PLACES:
        first = state is not State.CLOSE or y > 0
        _box(sheet, x, y, label(state), marked=state is mark and first)
    for edge in _EDGES:
        move = transition(edge.before, edge.event)
        if move is None:
            raise ValueError(f"{edge.before.name} does not know the event: {edge.event.value}")
        _line(sheet, edge.corners)
        _write(sheet, edge.words, f" {_words(move)} ")
    indent = " " * max(0, (min(width, MAX_WIDTH) - WIDTH) // 2)
    lines = [(indent + "".join(row)).rstrip() for row in sheet]
    return [to_ascii(line) for line in lines] if ascii else lines


def _listed(mark: State | None) -> list[str]:
    """Return the arrows of the diagram as lines, by the state they begin at."""
    lines: list[str] = []
    for state in dict.fromkeys(edge.before for edge in _EDGES):
        lines.append(f"  {label(state)}{' ◄══ you are here' if state is mark else ''}")
        for edge in _EDGES:
            move = transition(edge.before, edge.event)
            if edge.before is state and move is not None:
                lines.append(f"    ──► {label(move.after):12} {_words(move)}")
    return lines


def _words(move: Transition) -> str:
    """Return what causes a transition and, after a slash, the segment that it sends."""
    cause = _EVENTS[move.event]
    return f"{cause} / {move.sends.value}" if move.sends else cause


def _write(sheet: list[list[str]], at: tuple[int, int], text: str) -> None:
    x, y = at
    sheet[y][x - 1 : x - 1 + len(text)] = text


def _box(sheet: list[list[str]], x: int, y: int, name: str, *, marked: bool) -> None:
    """Draw the frame of a state, three lines high."""
    inner = _BOX - 2
    if marked:
        top, middle, bottom = f"╔{'═' * inner}╗", f"║{name:^{inner}}║", f"╚{_HERE:═^{inner}}╝"
    else:
        top, middle, bottom = f"┌{'─' * inner}┐", f"│{name:^{inner}}│", f"└{'─' * inner}┘"
    for offset, text in enumerate((top, middle, bottom)):
        _write(sheet, (x + 1, y + offset), text)


def _line(sheet: list[list[str]], corners: tuple[tuple[int, int], ...]) -> None:
    """Draw a line from a frame through its corners, with a head at the last one."""
    turns = {
        ("left", "down"): "┌",
        ("right", "down"): "┐",
        ("down", "left"): "┘",
        ("down", "right"): "└",
    }
    (x, y), (to_x, to_y) = corners[:2]
    frame = sheet[y][x]
    side = "├" if to_x > x else "┤"
    exits = {"─": "┬", "│": side}
    before = ""
    for (x, y), (to_x, to_y) in pairwise(corners):
        way = "down" if x == to_x else "left" if to_x < x else "right"
        for column in range(min(x, to_x), max(x, to_x) + 1):
            for row in range(min(y, to_y), max(y, to_y) + 1):
                sheet[row][column] = "│" if way == "down" else "─"
        if before:
            sheet[y][x] = turns[before, way]
        before = way
    x, y = corners[0]
    # A double frame, and the words in it, stay whole.
    sheet[y][x] = exits.get(frame, frame)
    x, y = corners[-1]
    sheet[y][x] = {"down": "▼", "left": "◄", "right": "►"}[before]
