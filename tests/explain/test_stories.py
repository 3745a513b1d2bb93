"""Every drawn story is replayed through the model, and every state in its drawing compared."""

from __future__ import annotations

import pytest

from tests.explain.reading import histories, segments
from twdiag.explain.diagram import ChartSide, sequence_chart
from twdiag.explain.play import StoryPlay
from twdiag.explain.steps import IllegalStep, Move
from twdiag.explain.stories import STORIES
from twdiag.explain.story import Story, perform
from twdiag.tcp import State
from twdiag.tcp.segments import Event, Segment
from twdiag.tcp.transitions import TRANSITIONS, Transition

LEGAL = {(t.before, t.event, t.after) for t in TRANSITIONS if t.linux}
ALL = pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)

# What the issue asks to be drawn, and the state at both ends when it is over.
ENDS = {
    "three-way-open": ("ESTABLISHED", "ESTABLISHED"),
    "four-way-close": ("CLOSE", "CLOSE"),
    "half-close-with-data": ("CLOSE", "CLOSE"),
    "three-segment-close": ("CLOSE", "CLOSE"),
    "simultaneous-close": ("CLOSE", "CLOSE"),
    "last-ack-lost": ("CLOSE", "CLOSE"),
    "last-ack-lost-without-time-wait": ("CLOSE", "CLOSE"),
    "old-segment": ("CLOSE", "CLOSE"),
    "late-data-in-time-wait": ("CLOSE", "CLOSE"),
    "old-segment-without-time-wait": ("ESTABLISHED", "ESTABLISHED"),
    "fin-lost": ("CLOSE", "CLOSE"),
    "peer-vanished": ("CLOSE", None),
    "close-wait-for-ever": ("CLOSE", "CLOSE"),
    "half-open": ("CLOSE", "CLOSE"),
    "syn-meets-last-ack": ("ESTABLISHED", "ESTABLISHED"),
    "syn-meets-time-wait": ("ESTABLISHED", "ESTABLISHED"),
    "old-syn-meets-time-wait": ("ESTABLISHED", "ESTABLISHED"),
    "bind-fails-after-restart": ("CLOSE", "LISTEN"),
    "abrupt-close": ("CLOSE", "CLOSE"),
    "close-with-unread-data": ("CLOSE", "CLOSE"),
    "request-meets-close": ("CLOSE", "CLOSE"),
}


def _transition(move: Move) -> Transition:
    """Return the arrow that a move follows."""
    way = (move.before, move.event, move.after)
    return next(t for t in TRANSITIONS if (t.before, t.event, t.after) == way)


def _changes(states: list[State | None]) -> list[State | None]:
    """Return the states without immediate repetitions."""
    return [s for i, s in enumerate(states) if i == 0 or s is not states[i - 1]]


def _replayed(play: StoryPlay) -> list[tuple[State | None, State | None]]:
    """Replay the moves of a play through tcp.transition alone; return the states after each."""
    now = {ChartSide.LEFT: play.first[0], ChartSide.RIGHT: play.first[1]}
    trail = [(now[ChartSide.LEFT], now[ChartSide.RIGHT])]
    for step in play.steps:
        for move in step.moves:
            assert now[move.side] is move.before
            assert (move.before, move.event, move.after) in LEGAL
            now[move.side] = move.after
        if not step.moves and (step.left, step.right) != trail[-1]:
            # The only changes without an event of TCP: an end is switched off, and on again.
            changed = [
                (b, a) for a, b in zip((step.left, step.right), trail[-1], strict=True) if a != b
            ]
            assert [None in change for change in changed] == [True]
            assert changed[0][1] in (None, State.CLOSE)
            now = {ChartSide.LEFT: step.left, ChartSide.RIGHT: step.right}
        trail.append((now[ChartSide.LEFT], now[ChartSide.RIGHT]))
    return trail


def test_all_that_was_asked_for_is_there() -> None:
    assert [story.name for story in STORIES] == list(ENDS)


@ALL
@pytest.mark.parametrize("ascii", [False, True], ids=["unicode", "ascii"])
def test_the_drawing_shows_the_states_that_the_model_reaches(story: Story, ascii: bool) -> None:
    play = perform(story)
    trail = _replayed(play)
    for upto in range(len(play.steps) + 1):
        left, right = histories(sequence_chart(play.chart(upto), ascii=ascii))
        assert left == _changes([states[0] for states in trail[: upto + 1]])
        assert right == _changes([states[1] for states in trail[: upto + 1]])


@ALL
def test_it_ends_as_it_should(story: Story) -> None:
    last = perform(story).steps[-1]
    names = tuple(None if s is None else s.name for s in (last.left, last.right))
    assert names == ENDS[story.name]


@ALL
def test_every_segment_sent_is_drawn_with_its_numbers(story: Story) -> None:
    play = perform(story)
    drawn = segments(sequence_chart(play.chart()))
    sent = [packet for step in play.steps for packet in step.packets]
    assert [
        (int(d["number"]), d["flags"], int(d["seq"]), int(d["ack"]) if d["ack"] else None)
        for d in drawn
    ] == [(p.number, p.segment.value, p.seq, p.ack) for p in sent]


@ALL
def test_acknowledgments_name_the_end_of_something_sent(story: Story) -> None:
    ends: dict[ChartSide, set[int]] = {side: set() for side in ChartSide}
    for step in perform(story).steps:
        for packet in step.packets:
            other = ends[packet.sender.other]
            # 1001 and 5001 are where the stages begin; 901 answers a SYN with 900.
            if packet.ack is not None:
                assert packet.ack in other | {1001, 5001}, packet
            ends[packet.sender].add(packet.end)


@ALL
def test_segments_are_numbered_from_one_without_a_gap(story: Story) -> None:
    numbers = {p.number for step in perform(story).steps for p in step.packets}
    assert numbers == set(range(1, len(numbers) + 1))


@ALL
def test_state_changes_send_what_the_model_says(story: Story) -> None:
    """Every FIN, SYN and RST that is drawn was sent by a transition (or is sent again)."""
    play = perform(story)
    sent = {Segment.SYN: 0, Segment.SYN_ACK: 0, Segment.FIN: 0, Segment.RST: 0}
    for step in play.steps:
        for move in step.moves:
            known = _transition(move)
            if known.sends in sent:
                sent[known.sends] += 1
    drawn = dict.fromkeys(sent, 0)
    numbers = set()
    for packet in (p for step in play.steps for p in step.packets):
        if packet.segment in drawn and packet.number not in numbers and not packet.remark:
            drawn[packet.segment] += 1
        numbers.add(packet.number)
    assert drawn == sent


@ALL
def test_reasons_are_given(story: Story) -> None:
    steps = perform(story).steps
    assert sum(bool(step.why) for step in steps) >= len(steps) * 2 // 3


def _told(name: str) -> list[tuple[str, str]]:
    """Return (state left, state right) after each step of a story."""
    story = next(s for s in STORIES if s.name == name)
    return [
        (s.left.name if s.left else "-", s.right.name if s.right else "-")
        for s in perform(story).steps
    ]


def test_the_last_ack_is_repeated_only_with_time_wait() -> None:
    with_it = _told("last-ack-lost")
    assert with_it[-2:] == [("TIME_WAIT", "CLOSE"), ("CLOSE", "CLOSE")]
    story = next(s for s in STORIES if s.name == "last-ack-lost-without-time-wait")
    last = perform(story).steps[-1]
    assert [p.segment for p in last.packets] == [Segment.RST]
    assert last.moves[-1].before is State.LAST_ACK


def test_the_simultaneous_close_leaves_two_time_waits() -> None:
    told = _told("simultaneous-close")
    assert ("CLOSING", "CLOSING") in told
    assert ("TIME_WAIT", "TIME_WAIT") in told


def test_the_half_closed_end_receives_in_fin_wait2() -> None:
    story = next(s for s in STORIES if s.name == "half-close-with-data")
    data = [s for s in perform(story).steps for p in s.packets if p.length]
    assert [(s.left, s.right) for s in data] == [(State.FIN_WAIT2, State.CLOSE_WAIT)]


def test_a_syn_in_last_ack_is_answered_with_a_challenge_ack_and_the_client_resets() -> None:
    story = next(s for s in STORIES if s.name == "syn-meets-last-ack")
    sent = [p for s in perform(story).steps for p in s.packets]
    at = next(i for i, p in enumerate(sent) if p.segment is Segment.SYN)
    assert [(p.sender, p.segment) for p in sent[at : at + 4]] == [
        (ChartSide.LEFT, Segment.SYN),
        (ChartSide.RIGHT, Segment.ACK),
        (ChartSide.LEFT, Segment.RST),
        (ChartSide.LEFT, Segment.SYN),
    ]


# The player refuses what TCP does not allow.


def _open() -> StoryPlay:
    play = StoryPlay("left", "right")
    play.established(left=1001, right=5001)
    return play


def test_an_illegal_event_is_refused() -> None:
    with pytest.raises(IllegalStep):
        _open().happen(ChartSide.LEFT, Event.TIME_WAIT_EXPIRES, "too early")


def test_data_after_the_own_fin_is_refused() -> None:
    play = _open()
    play.call(ChartSide.LEFT, Event.CLOSE, "close()")
    with pytest.raises(IllegalStep):
        play.write(ChartSide.LEFT, 100)


def test_a_segment_cannot_arrive_twice() -> None:
    play = _open()
    fin = play.call(ChartSide.LEFT, Event.CLOSE, "close()")
    play.arrive(fin)
    with pytest.raises(IllegalStep):
        play.arrive(fin)


def test_what_was_acknowledged_is_not_sent_again() -> None:
    play = _open()
    fin = play.call(ChartSide.LEFT, Event.CLOSE, "close()")
    play.arrive(play.answer(fin))
    with pytest.raises(IllegalStep):
        play.resend(fin)


def test_an_old_syn_does_not_reopen_a_time_wait_until_a_rst_has_ended_it() -> None:
    play = _open()
    fin = play.call(ChartSide.RIGHT, Event.CLOSE, "close()")
    play.arrive(play.answer(fin))
    fin = play.call(ChartSide.LEFT, Event.CLOSE, "close()")
    play.arrive(play.answer(fin))
    play.renew(ChartSide.LEFT, initial=500)
    syn = play.call(ChartSide.LEFT, Event.ACTIVE_OPEN, "connect()")
    doubt = play.answer(syn)
    assert play.states == (State.SYN_SENT, State.TIME_WAIT)
    play.arrive(play.answer(doubt))
    assert play.states == (State.SYN_SENT, State.CLOSE)


def test_data_to_a_closed_socket_draws_a_rst_that_fits() -> None:
    play = _open()
    play.arrive(play.answer(play.call(ChartSide.RIGHT, Event.CLOSE, "close()")))
    reset = play.refuse(play.write(ChartSide.LEFT, 100))
    assert reset.segment is Segment.RST
    play.arrive(reset)
    assert play.states == (State.CLOSE, State.CLOSE)


def test_an_ack_of_what_was_never_sent_is_refused() -> None:
    play = _open()
    data = play.write(ChartSide.LEFT, 100)
    ack = play.answer(data)
    play.lose(ack)
    other = _open()
    with pytest.raises(IllegalStep):
        other.arrive(ack)


def test_what_linux_does_not_do_is_not_played() -> None:
    play = StoryPlay("left", "right")
    play.listening(ChartSide.RIGHT, initial=1)
    with pytest.raises(IllegalStep):
        play.call(ChartSide.RIGHT, Event.SEND, "send()")
