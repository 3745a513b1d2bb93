"""The compact chart of a finding: where in the handshake a socket stands, and whose move it is."""

from __future__ import annotations

from dataclasses import replace

from twdiag.explain.diagram.ink import MAX_WIDTH
from twdiag.explain.diagram.sequence import (
    Arrow,
    Chart,
    ChartRow,
    ChartSide,
    Crossing,
    Note,
    Pause,
    sequence_chart,
)
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.tcp.phases import ORDINARY_CLOSE, PHASES
from twdiag.tcp.roles import Role
from twdiag.tcp.segments import Event
from twdiag.tcp.transitions import Transition, transition


def close_chart(
    mark: State | None = None,
    *,
    here: Role | None = None,
    move: str = "",
    ascii: bool = False,
    width: int = MAX_WIDTH,
) -> list[str]:
    """Draw the ordinary close with "you are here" at a state, and whose move is next.

    What has not happened yet is dotted.  The states of opening are shown in the 3-way open, CLOSING
    in the simultaneous close.  `here` is the role of this host, by default that of the state;
    `move` is what has to happen next, by default what ends the state.
    """
    if mark in (State.LISTEN, State.SYN_SENT, State.SYN_RECV):
        chart = _open(mark, move)
    elif mark is State.CLOSING:
        chart = _simultaneous(move)
    else:
        chart = _close(mark, here or (PHASES[mark].role if mark else None), move)
    return sequence_chart(chart, ascii=ascii, width=width)


def _close(mark: State | None, here: Role | None, next_move: str) -> Chart:
    """Return the ordinary close as both ends live through it, up to the mark and beyond it."""
    start, end = State.ESTABLISHED, State.CLOSE
    role = PHASES[mark].role if mark else Role.NONE
    # Only the two states outside of the close stand on either side.
    side = (
        ChartSide.RIGHT
        if (here if role is Role.NONE else role) is Role.PASSIVE_CLOSER
        else ChartSide.LEFT
    )
    at = 0 if mark is None else PHASES[mark].step or 0
    if mark is end:
        at = len(ORDINARY_CLOSE) + 1
    rows = [ChartRow(Note(""), start, start)]
    for step in ORDINARY_CLOSE:
        sender = ChartSide.LEFT if step.sender is Role.ACTIVE_CLOSER else ChartSide.RIGHT
        rows.append(
            ChartRow(
                Arrow(sender, f"{step.number}  {step.segment.value}"), step.active, step.passive
            )
        )
    rows.append(ChartRow(Pause(f"{TIME_WAIT_SECONDS} s"), end, end))
    names = ["active closer", "passive closer"]
    if here in (Role.ACTIVE_CLOSER, Role.PASSIVE_CLOSER):
        this, other = (0, 1) if here is Role.ACTIVE_CLOSER else (1, 0)
        names[this] += ": this host"
        names[other] += ": the other end"
    return Chart(names[0], names[1], _marked(rows, at, side, mark, next_move))


def _open(mark: State, next_move: str) -> Chart:
    """Return the 3-way open with the mark at a state of it."""
    syn = _move(State.CLOSE, Event.ACTIVE_OPEN)
    answer = _move(State.LISTEN, Event.RECEIVE_SYN)
    ack = _move(syn.after, Event.RECEIVE_SYN_ACK)
    done = _move(answer.after, Event.RECEIVE_ACK_OF_SYN)
    rows = [
        ChartRow(Note(""), syn.before, answer.before),
        ChartRow(_segment(ChartSide.LEFT, 1, syn), syn.after, answer.after),
        ChartRow(_segment(ChartSide.RIGHT, 2, answer), ack.after, answer.after),
        ChartRow(_segment(ChartSide.LEFT, 3, ack), ack.after, done.after),
    ]
    at, side = {
        State.LISTEN: (0, ChartSide.RIGHT),
        State.SYN_SENT: (1, ChartSide.LEFT),
        State.SYN_RECV: (2, ChartSide.RIGHT),
    }[mark]
    names = (
        ("client: this host", "server")
        if side is ChartSide.LEFT
        else ("client", "server: this host")
    )
    return Chart(names[0], names[1], _marked(rows, at, side, mark, next_move))


def _simultaneous(next_move: str) -> Chart:
    """Return the close in which the FINs cross, with the mark at CLOSING."""
    fin = _move(State.ESTABLISHED, Event.CLOSE)
    ack = _move(fin.after, Event.RECEIVE_FIN)
    done = _move(ack.after, Event.RECEIVE_ACK_OF_FIN)
    sent, answered = (move.sends.value for move in (fin, ack) if move.sends)
    rows = [
        ChartRow(Note("both applications close"), fin.after, fin.after),
        ChartRow(Crossing(sent, sent), ack.after, ack.after),
        ChartRow(Crossing(answered, answered), done.after, done.after),
    ]
    return Chart(
        "closer: this host",
        "closer: the other end",
        _marked(rows, 1, ChartSide.LEFT, State.CLOSING, next_move),
    )


def _marked(
    rows: list[ChartRow], at: int, side: ChartSide, mark: State | None, next_move: str
) -> tuple[ChartRow, ...]:
    """Return the rows with the mark at one of them, the next move after it, the rest pending."""
    if mark is None:
        return tuple(rows)
    here = replace(rows[at], mark=side)
    move = replace(here, what=Note(f"next: {next_move or PHASES[mark].next}"), mark=None)
    later = (replace(row, pending=True) for row in rows[at + 1 :])
    return (*rows[:at], here, move, *later)


def _move(state: State, event: Event) -> Transition:
    """Return what an event does in a state that must know it."""
    move = transition(state, event)
    if move is None:
        raise ValueError(f"{state.name} does not know the event: {event.value}")
    return move


def _segment(sender: ChartSide, number: int, move: Transition) -> Arrow:
    """Return the arrow of the segment that a transition sends."""
    return Arrow(sender, f"{number}  {move.sends.value if move.sends else ''}")
