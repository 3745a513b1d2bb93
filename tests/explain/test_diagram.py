"""The drawings: golden charts, marks, widths, and the state diagram against the model."""

from __future__ import annotations

import re

import pytest

from tests.explain.reading import histories, read_lines, state_of
from twdiag.explain.diagram import (
    Arrow,
    Chart,
    ChartRow,
    ChartSide,
    Fate,
    Note,
    close_chart,
    label,
    sequence_chart,
    state_diagram,
    to_ascii,
)
from twdiag.explain.diagram.machine import DRAWN, WIDTH, left_out
from twdiag.explain.stories import STORIES
from twdiag.explain.story import Story, played
from twdiag.tcp import State
from twdiag.tcp.phases import ORDINARY_CLOSE, PHASES
from twdiag.tcp.roles import Role
from twdiag.tcp.segments import Event
from twdiag.tcp.transitions import TRANSITIONS, transition

STATES = pytest.mark.parametrize("state", State, ids=lambda state: state.name)


def _text(drawing: str) -> list[str]:
    return drawing.strip("\n").split("\n")


def test_close_wait_looks_like_this() -> None:
    assert close_chart(State.CLOSE_WAIT) == _text("""
 active closer: the other end       passive closer: this host
  ESTABLISHED │                                 │ ESTABLISHED
    FIN_WAIT1 │────────── 1  FIN,ACK ──────────►│ CLOSE_WAIT
   FIN_WAIT2? │◄──────────── 2  ACK ────────────│ CLOSE_WAIT ◄══ you are here
              │   next: the local application   │
              │          calls close()          │
  (TIME_WAIT) │◄·········· 3  FIN,ACK ··········│ (LAST_ACK)
              │············ 4  ACK ············►│ (CLOSED)
     (CLOSED) :          ... 60 s ...           :
""")


def test_fin_wait2_looks_like_this_in_ascii() -> None:
    assert close_chart(State.FIN_WAIT2, ascii=True) == _text("""
                   active closer: this host        passive closer: the other end
                   ESTABLISHED |                                 | ESTABLISHED
                     FIN_WAIT1 |---------- 1  FIN,ACK ---------->| CLOSE_WAIT
    you are here ==> FIN_WAIT2 |<------------ 2  ACK ------------|
                               |  next: the peer's application   |
                               |   closes, and its FIN arrives   |
                   (TIME_WAIT) |<.......... 3  FIN,ACK ..........| (LAST_ACK)
                               |............ 4  ACK ............>| (CLOSED)
                      (CLOSED) :          ... 60 s ...           :
""")


def test_the_ordinary_close_without_a_mark() -> None:
    assert close_chart() == _text("""
        active closer                                     passive closer
  ESTABLISHED │                                                  │ ESTABLISHED
    FIN_WAIT1 │────────────────── 1  FIN,ACK ───────────────────►│ CLOSE_WAIT
    FIN_WAIT2 │◄───────────────────── 2  ACK ────────────────────│
    TIME_WAIT │◄─────────────────── 3  FIN,ACK ──────────────────│ LAST_ACK
              │──────────────────── 4  ACK ─────────────────────►│ CLOSED
       CLOSED :                   ... 60 s ...                   :
""")


@STATES
@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [60, 71, 72, 76, 80, 100, 200])
def test_compact_charts_fit(state: State, ascii: bool, width: int) -> None:
    lines = close_chart(state, ascii=ascii, width=width)
    assert max(map(len, lines)) <= min(width, 80)
    assert len(lines) <= (10 if width >= 76 else 13)
    assert [line.rstrip() for line in lines] == lines
    if ascii:
        assert "".join(lines).isascii()


def test_a_narrow_chart_says_what_its_mark_means_below() -> None:
    assert close_chart(State.CLOSE_WAIT, width=60) == _text("""
        active closer        passive closer: this host
  ESTABLISHED │                          │ ESTABLISHED
    FIN_WAIT1 │────── 1  FIN,ACK ───────►│ CLOSE_WAIT
   FIN_WAIT2? │◄───────── 2  ACK ────────│ CLOSE_WAIT ◄══
              │     next: the local      │
              │    application calls     │
              │         close()          │
  (TIME_WAIT) │◄······· 3  FIN,ACK ······│ (LAST_ACK)
              │········ 4  ACK ·········►│ (CLOSED)
     (CLOSED) :       ... 60 s ...       :
◄══ you are here
""")


@pytest.mark.parametrize("width", [60, 72, 80])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_every_story_fits(story: Story, width: int) -> None:
    lines = sequence_chart(played(story).chart(), width=width)
    assert max(map(len, lines)) <= width
    drawn = " ".join(lines)
    for step in played(story).steps:
        for packet in step.packets:
            assert re.search(rf"\b{packet.number}  {packet.segment.value}\b", drawn)


def test_a_narrow_state_diagram_lists_the_same_arrows() -> None:
    lines = state_diagram(State.FIN_WAIT2, width=60)
    assert max(map(len, lines)) <= 60
    arrows, before = set(), ""
    for line in lines:
        if "──►" in line:
            arrows.add((before, line.split()[1]))
        else:
            before = line.split()[0]
    expected = set()
    for state, event in DRAWN:
        move = transition(state, event)
        assert move is not None
        expected.add((label(state), label(move.after)))
    assert arrows == expected
    assert [line for line in lines if "you are here" in line] == ["  FIN_WAIT2 ◄══ you are here"]


@STATES
def test_the_mark_is_at_the_state_once(state: State) -> None:
    lines = close_chart(state)
    marked = [line for line in lines if "you are here" in line]
    assert len(marked) == 1
    words = next(seen for seen in read_lines(lines) if "you are here" in seen.left + seen.right)
    side = words.left if "you are here" in words.left else words.right
    assert state_of(side) == (True, state)


@STATES
def test_what_is_next_stands_in_the_chart_whole(state: State) -> None:
    lane = " ".join(seen.lane.strip() for seen in read_lines(close_chart(state)))
    assert f"next: {PHASES[state].next}" in re.sub(r"\s+", " ", lane)


@pytest.mark.parametrize(
    ("state", "step", "solid"),
    [
        (State.FIN_WAIT1, 1, 1),
        (State.FIN_WAIT2, 2, 2),
        (State.CLOSE_WAIT, 2, 2),
        (State.LAST_ACK, 3, 3),
        (State.TIME_WAIT, 4, 4),
    ],
)
def test_only_what_has_happened_is_drawn_solid(state: State, step: int, solid: int) -> None:
    assert PHASES[state].step == step
    arrows = [seen.lane for seen in read_lines(close_chart(state)) if re.search(r"\d  ", seen.lane)]
    assert [("─" in lane, "·" in lane) for lane in arrows] == [
        (number <= solid, number > solid) for number in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("state", "supposed"),
    [
        (State.FIN_WAIT1, "CLOSE_WAIT?"),
        (State.CLOSE_WAIT, "FIN_WAIT2?"),
        (State.LAST_ACK, "TIME_WAIT?"),
        (State.TIME_WAIT, "CLOSED?"),
        (State.SYN_SENT, "SYN_RECV?"),
        (State.CLOSING, "CLOSING?"),
    ],
)
def test_what_the_other_end_can_only_be_supposed_to_do_has_a_question_mark(
    state: State, supposed: str
) -> None:
    assert [word for line in close_chart(state) for word in line.split() if "?" in word] == [
        supposed
    ]


def test_the_compact_close_shows_the_states_of_the_model() -> None:
    left, right = histories(close_chart())
    first = State.ESTABLISHED
    active = [first, *(step.active for step in ORDINARY_CLOSE), State.CLOSE]
    passive = [first, *(step.passive for step in ORDINARY_CLOSE)]
    assert left == [s for i, s in enumerate(active) if i == 0 or s is not active[i - 1]]
    assert right == [s for i, s in enumerate(passive) if i == 0 or s is not passive[i - 1]]


def test_the_compact_open_and_simultaneous_close() -> None:
    assert histories(close_chart(State.LISTEN)) == (
        [State.CLOSE, State.SYN_SENT, State.ESTABLISHED],
        [State.LISTEN, State.SYN_RECV, State.ESTABLISHED],
    )
    both = [State.FIN_WAIT1, State.CLOSING, State.TIME_WAIT]
    assert histories(close_chart(State.CLOSING)) == (both, both)


def test_this_host_can_be_either_end_before_the_close() -> None:
    passive = close_chart(State.ESTABLISHED, here=Role.PASSIVE_CLOSER)
    assert "passive closer: this host" in passive[0]
    assert passive[1].endswith("ESTABLISHED ◄══ you are here")
    active = close_chart(State.ESTABLISHED, here=Role.ACTIVE_CLOSER)
    assert active[1].lstrip().startswith("you are here ══► ESTABLISHED")


@pytest.mark.parametrize(
    ("fate", "drawn"),
    [
        (Fate.ARRIVES, "───────────────── 1  SYN seq=1 ──────────────────►"),
        (Fate.LOST, "──────── 1  SYN seq=1 ──X lost"),
        (Fate.DELAYED, "──────── 1  SYN seq=1 ──·· delayed"),
        (Fate.LATE, "·············· 1  SYN seq=1, late ···············►"),
    ],
)
def test_the_fate_of_a_segment_is_drawn_and_said(fate: Fate, drawn: str) -> None:
    row = ChartRow(Arrow(ChartSide.LEFT, "1  SYN seq=1", fate), State.SYN_SENT, State.LISTEN)
    chart = Chart("a", "b", (ChartRow(Note(""), State.CLOSE, State.LISTEN), row))
    lane = read_lines(sequence_chart(chart))[1].lane
    assert lane.rstrip() == drawn


def test_an_arrow_to_the_left_mirrors_one_to_the_right() -> None:
    def lane(side: ChartSide, fate: Fate) -> str:
        row = ChartRow(Arrow(side, "1  SYN seq=1", fate), State.SYN_SENT, State.LISTEN)
        start = ChartRow(Note(""), State.CLOSE, State.LISTEN)
        return read_lines(sequence_chart(Chart("a", "b", (start, row))))[1].lane

    for fate in Fate:
        right, left = lane(ChartSide.LEFT, fate), lane(ChartSide.RIGHT, fate)
        shape = str.maketrans("►◄", "<<")
        assert sorted(right.translate(shape)) == sorted(left.translate(shape))
        assert right.index("SYN") < right.rindex("─" if fate is not Fate.LATE else "·")


# The state diagram.


def test_the_state_diagram_shows_every_state_and_marks_one() -> None:
    for state in State:
        text = "\n".join(state_diagram(state))
        assert text.count("you are here") == 1
        for other in State:
            assert re.search(rf"\b{label(other)}\b", text)
        marked = re.search(r"║ +(\w+) +║", text)
        assert marked is not None
        assert marked[1] == label(state)


@pytest.mark.parametrize("ascii", [False, True])
def test_the_state_diagram_fits(ascii: bool) -> None:
    lines = state_diagram(ascii=ascii)
    assert max(map(len, lines)) <= 80
    assert max(map(len, state_diagram(width=76))) <= WIDTH <= 76
    assert len(lines) <= 24
    if ascii:
        assert "".join(lines).isascii()


def test_the_state_diagram_draws_all_but_repeats_resets_and_give_ups() -> None:
    for move in left_out():
        assert move.before is not move.after
        assert (
            move.event
            in (
                Event.ABORT,
                Event.RECEIVE_RST,
                Event.RETRIES_EXHAUSTED,
                Event.KEEPALIVE_EXHAUSTED,
            )
            # Giving up an open, the simultaneous open, and the reuse of RFC 6191.
            or (move.before, move.event)
            in {
                (State.LISTEN, Event.CLOSE),
                (State.SYN_SENT, Event.CLOSE),
                (State.SYN_SENT, Event.RECEIVE_SYN),
                (State.TIME_WAIT, Event.RECEIVE_SYN),
            }
        ), move


def test_what_is_not_drawn_is_left_out_or_repeats_or_not_done_by_linux() -> None:
    known = set(left_out())
    for move in TRANSITIONS:
        drawn = (move.before, move.event) in DRAWN and not move.when
        assert drawn + (move in known) + (move.before is move.after or not move.linux) == 1


def _neighbours(x: int, y: int, character: str) -> list[tuple[int, int]]:
    """Return where the line at a cell goes on."""
    ways = {
        "─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu",
        "►": "l", "◄": "r", "▼": "u", "┬": "d", "├": "r", "┤": "l",
    }  # fmt: skip
    steps = {"l": (-1, 0), "r": (1, 0), "u": (0, -1), "d": (0, 1)}
    return [(x + steps[w][0], y + steps[w][1]) for w in ways.get(character, "")]


def test_every_arrow_of_the_state_diagram_joins_the_states_of_its_transition() -> None:
    """Follow each line from its head back to its box, over its words, and ask the model."""
    lines = [line.ljust(80) for line in state_diagram()]
    boxes = {
        (m.start(1), y): m[1]
        for y, line in enumerate(lines)
        for m in re.finditer(r"(?<=[│┤├]) +([A-Z_0-9]+) +(?=[│├┤])", line)
        if m[1] in {label(s) for s in State}
    }

    def box_at(x: int, y: int) -> str:
        """Return the name in the box whose frame has this cell."""
        found = [
            name for (bx, by), name in boxes.items() if abs(by - y) <= 1 and -9 <= x - bx <= 16
        ]
        assert found, (x, y)
        return min(
            ((abs(bx + 4 - x) + abs(by - y), n) for (bx, by), n in boxes.items() if n in found)
        )[1]

    joined = set()
    for y, line in enumerate(lines):
        for x, head in enumerate(line):
            if head not in "►◄▼":
                continue
            ahead = {"►": (x + 1, y), "◄": (x - 1, y), "▼": (x, y)}[head]
            touched = line[x - 1] + line[x + 1] if head == "▼" else line[ahead[0]]
            assert touched in ("──", "│", "├", "┤"), (x, y)
            came, at = (x, y), _neighbours(x, y, head)[0]
            while True:
                cx, cy = at
                character = lines[cy][cx]
                if character in "┬├┤":
                    break
                nexts = [n for n in _neighbours(cx, cy, character) if n != came]
                if not nexts:  # the words on the line: go straight on
                    nexts = [(2 * cx - came[0], 2 * cy - came[1])]
                came, at = at, nexts[0]
            joined.add((box_at(*at), box_at(*ahead)))
    expected = set()
    for before, event in DRAWN:
        move = transition(before, event)
        assert move is not None
        expected.add((label(before), label(move.after)))
    assert joined == expected


def test_ascii_needs_no_other_characters() -> None:
    assert to_ascii("─│┌┐└┘├┤┬┴┼═║╔╗╚╝►◄▼▲·").isascii()


def test_every_line_drawing_character_is_in_code_page_437() -> None:
    # The font of code page 437 has these at the places of control characters.
    arrows = str.maketrans("", "", "►◄▼")
    for state in State:
        drawn = "\n".join([*close_chart(state), *state_diagram(state)])
        assert drawn.translate(arrows).encode("cp437")
