"""The handshake model against tables written down independently from RFC 9293."""

from __future__ import annotations

import re

import pytest

from twdiag import tcp
from twdiag.tcp import (
    ORDINARY_CLOSE,
    PHASES,
    TRANSITIONS,
    Actor,
    Event,
    Role,
    State,
    closing_role,
    parse_state,
    transition,
    transitions_from,
    transitions_into,
)

# RFC 9293 figure 5 and its notes, arrow by arrow: state, what happens, what is sent, next state.
FIGURE_5 = """
CLOSE        PASSIVE_OPEN                -       LISTEN
CLOSE        ACTIVE_OPEN                 SYN     SYN_SENT
LISTEN       RECEIVE_SYN                 SYN,ACK SYN_RECV
LISTEN       SEND                        SYN     SYN_SENT
LISTEN       CLOSE                       -       CLOSE
SYN_SENT     CLOSE                       -       CLOSE
SYN_SENT     RECEIVE_SYN                 SYN,ACK SYN_RECV
SYN_SENT     RECEIVE_SYN_ACK             ACK     ESTABLISHED
SYN_RECV     RECEIVE_ACK_OF_SYN          -       ESTABLISHED
SYN_RECV     CLOSE                       FIN,ACK FIN_WAIT1
SYN_RECV     RECEIVE_RST                 -       LISTEN
ESTABLISHED  CLOSE                       FIN,ACK FIN_WAIT1
ESTABLISHED  RECEIVE_FIN                 ACK     CLOSE_WAIT
FIN_WAIT1    RECEIVE_ACK_OF_FIN          -       FIN_WAIT2
FIN_WAIT1    RECEIVE_FIN                 ACK     CLOSING
FIN_WAIT1    RECEIVE_FIN_AND_ACK_OF_FIN  ACK     TIME_WAIT
FIN_WAIT2    RECEIVE_FIN                 ACK     TIME_WAIT
CLOSING      RECEIVE_ACK_OF_FIN          -       TIME_WAIT
TIME_WAIT    TIME_WAIT_EXPIRES           -       CLOSE
CLOSE_WAIT   CLOSE                       FIN,ACK LAST_ACK
LAST_ACK     RECEIVE_ACK_OF_FIN          -       CLOSE
"""

# What the text of RFC 9293 section 3.10, RFC 1122, 1337, 5961 and 6191 add to the figure.
TEXT = """
SYN_SENT     RECEIVE_UNACCEPTABLE_ACK    RST     SYN_SENT
SYN_SENT     RECEIVE_RST                 -       CLOSE
SYN_SENT     RETRIES_EXHAUSTED           -       CLOSE
SYN_RECV     RETRIES_EXHAUSTED           -       CLOSE
SYN_RECV     ABORT                       RST     CLOSE
ESTABLISHED  RECEIVE_RST                 -       CLOSE
ESTABLISHED  ABORT                       RST     CLOSE
FIN_WAIT1    RECEIVE_RST                 -       CLOSE
FIN_WAIT1    RETRIES_EXHAUSTED           -       CLOSE
FIN_WAIT1    ABORT                       RST     CLOSE
FIN_WAIT2    RECEIVE_RST                 -       CLOSE
FIN_WAIT2    FIN_WAIT2_EXPIRES           -       CLOSE
FIN_WAIT2    ABORT                       RST     CLOSE
CLOSING      RECEIVE_FIN                 ACK     CLOSING
CLOSING      RECEIVE_RST                 -       CLOSE
CLOSING      RETRIES_EXHAUSTED           -       CLOSE
TIME_WAIT    RECEIVE_FIN                 ACK     TIME_WAIT
TIME_WAIT    RECEIVE_SYN                 SYN,ACK SYN_RECV
TIME_WAIT    RECEIVE_RST                 -       CLOSE
CLOSE_WAIT   RECEIVE_FIN                 ACK     CLOSE_WAIT
CLOSE_WAIT   RECEIVE_RST                 -       CLOSE
CLOSE_WAIT   ABORT                       RST     CLOSE
LAST_ACK     RECEIVE_FIN                 ACK     LAST_ACK
LAST_ACK     RECEIVE_SYN                 ACK     LAST_ACK
LAST_ACK     RECEIVE_RST                 -       CLOSE
LAST_ACK     RETRIES_EXHAUSTED           -       CLOSE
CLOSE        RECEIVE_SYN                 RST     CLOSE
CLOSE        RECEIVE_SYN_ACK             RST     CLOSE
CLOSE        RECEIVE_FIN                 RST     CLOSE
CLOSE        RECEIVE_ACK_OF_FIN          RST     CLOSE
CLOSE        RECEIVE_ACK_OF_SYN          RST     CLOSE
CLOSE        RECEIVE_FIN_AND_ACK_OF_FIN  RST     CLOSE
CLOSE        RECEIVE_UNACCEPTABLE_ACK    RST     CLOSE
"""

Row = tuple[str, str, str, str]


def _table(text: str) -> list[Row]:
    rows = []
    for line in text.split("\n"):
        if line:
            before, event, sends, after = line.split()
            rows.append((before, event, sends, after))
    return rows


def _row(move: tcp.Transition) -> Row:
    sends = move.sends.value if move.sends else "-"
    return move.before.name, move.event.name, sends, move.after.name


@pytest.mark.parametrize("row", _table(FIGURE_5), ids=lambda row: f"{row[0]}-{row[1]}")
def test_every_arrow_of_figure_5_is_in_the_model(row: Row) -> None:
    move = transition(State[row[0]], Event[row[1]])
    assert move is not None
    assert _row(move) == row


def test_the_model_has_no_other_transitions_than_the_tables() -> None:
    assert sorted(map(_row, TRANSITIONS)) == sorted(_table(FIGURE_5) + _table(TEXT))


def test_every_transition_says_where_it_is_specified() -> None:
    for move in TRANSITIONS:
        assert re.match(r"RFC \d+ section \d", move.section), move


def test_no_state_has_two_transitions_for_one_event() -> None:
    pairs = [(move.before, move.event) for move in TRANSITIONS]
    assert len(pairs) == len(set(pairs))


def test_whatever_is_not_in_the_tables_is_illegal() -> None:
    legal = {(row[0], row[1]) for row in _table(FIGURE_5) + _table(TEXT)}
    for state in State:
        for event in Event:
            found = transition(state, event) is not None
            assert found is ((state.name, event.name) in legal), (state, event)


def test_every_state_can_be_reached_from_closed_and_leads_back() -> None:
    def reach(start: State, forward: bool) -> set[State]:
        seen, todo = {start}, [start]
        while todo:
            state = todo.pop()
            moves = transitions_from(state) if forward else transitions_into(state)
            for move in moves:
                other = move.after if forward else move.before
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    assert reach(State.CLOSE, forward=True) == set(State)
    assert reach(State.CLOSE, forward=False) == set(State)


def test_only_the_application_or_a_reset_leads_out_of_close_wait() -> None:
    ways = {move.event for move in transitions_from(State.CLOSE_WAIT) if move.after != move.before}
    assert ways == {Event.CLOSE, Event.ABORT, Event.RECEIVE_RST}


def test_time_wait_is_entered_only_by_a_fin_or_the_last_ack_of_a_simultaneous_close() -> None:
    ways = {
        (move.before.name, move.event.name)
        for move in transitions_into(State.TIME_WAIT)
        if move.before is not State.TIME_WAIT
    }
    assert ways == {
        ("FIN_WAIT1", "RECEIVE_FIN_AND_ACK_OF_FIN"),
        ("FIN_WAIT2", "RECEIVE_FIN"),
        ("CLOSING", "RECEIVE_ACK_OF_FIN"),
    }


def test_nobody_is_both_active_and_passive_closer() -> None:
    roles = {
        "LISTEN": Role.NONE,
        "SYN_SENT": Role.NONE,
        "SYN_RECV": Role.NONE,
        "ESTABLISHED": Role.NONE,
        "FIN_WAIT1": Role.ACTIVE_CLOSER,
        "FIN_WAIT2": Role.ACTIVE_CLOSER,
        "TIME_WAIT": Role.ACTIVE_CLOSER,
        "CLOSING": Role.BOTH,
        "CLOSE_WAIT": Role.PASSIVE_CLOSER,
        "LAST_ACK": Role.PASSIVE_CLOSER,
        "CLOSE": Role.NONE,
    }
    assert {state.name: closing_role(state) for state in State} == roles


def test_a_transition_that_stays_in_the_close_keeps_its_role() -> None:
    for move in TRANSITIONS:
        before, after = closing_role(move.before), closing_role(move.after)
        if Role.NONE not in (before, after) and Role.BOTH not in (before, after):
            assert before is after, move


def test_every_state_has_its_phase() -> None:
    assert set(PHASES) == set(State)
    for state, phase in PHASES.items():
        assert phase.state is state
        assert phase.meaning
        assert phase.next
        assert phase.ends
        assert phase.section.startswith("RFC 9293 section 3.")


@pytest.mark.parametrize(
    ("state", "actor"),
    [
        (State.CLOSE_WAIT, Actor.LOCAL_APPLICATION),
        (State.FIN_WAIT2, Actor.PEER_APPLICATION),
        (State.FIN_WAIT1, Actor.PEER_KERNEL),
        (State.LAST_ACK, Actor.PEER_KERNEL),
        (State.CLOSING, Actor.PEER_KERNEL),
        (State.TIME_WAIT, Actor.LOCAL_TIMER),
        (State.SYN_SENT, Actor.PEER_KERNEL),
    ],
)
def test_whose_move_it_is(state: State, actor: Actor) -> None:
    assert PHASES[state].waits_for is actor


def test_time_wait_is_60_seconds() -> None:
    assert tcp.TIME_WAIT_SECONDS == 60
    assert "60 s" in PHASES[State.TIME_WAIT].ends


def test_the_ordinary_close_is_figure_12() -> None:
    assert [
        (step.number, step.sender.name, step.segment.value, step.active.name, step.passive.name)
        for step in ORDINARY_CLOSE
    ] == [
        (1, "ACTIVE_CLOSER", "FIN,ACK", "FIN_WAIT1", "CLOSE_WAIT"),
        (2, "PASSIVE_CLOSER", "ACK", "FIN_WAIT2", "CLOSE_WAIT"),
        (3, "PASSIVE_CLOSER", "FIN,ACK", "TIME_WAIT", "LAST_ACK"),
        (4, "ACTIVE_CLOSER", "ACK", "TIME_WAIT", "CLOSE"),
    ]
    assert len(ORDINARY_CLOSE) == tcp.CLOSE_SEGMENTS


# include/net/tcp_states.h of Linux.
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "ESTABLISHED"),
        (2, "SYN_SENT"),
        (3, "SYN_RECV"),
        (4, "FIN_WAIT1"),
        (5, "FIN_WAIT2"),
        (6, "TIME_WAIT"),
        (7, "CLOSE"),
        (8, "CLOSE_WAIT"),
        (9, "LAST_ACK"),
        (10, "LISTEN"),
        (11, "CLOSING"),
    ],
)
def test_states_have_the_kernels_numbers(number: int, name: str) -> None:
    assert State(number).name == name


@pytest.mark.parametrize(
    ("spelling", "state"),
    [
        ("TIME-WAIT", State.TIME_WAIT),
        ("time_wait", State.TIME_WAIT),
        ("TIME_WAIT", State.TIME_WAIT),
        ("TimeWait", State.TIME_WAIT),
        ("time wait", State.TIME_WAIT),
        ("FIN-WAIT-1", State.FIN_WAIT1),
        ("FIN_WAIT1", State.FIN_WAIT1),
        ("fin-wait-2", State.FIN_WAIT2),
        ("FIN_WAIT2", State.FIN_WAIT2),
        ("ESTAB", State.ESTABLISHED),
        ("established", State.ESTABLISHED),
        ("SYN-RECEIVED", State.SYN_RECV),
        ("SYN-RECV", State.SYN_RECV),
        ("SYN_RECV", State.SYN_RECV),
        ("CLOSED", State.CLOSE),
        ("CLOSE", State.CLOSE),
        ("UNCONN", State.CLOSE),
        ("LAST-ACK", State.LAST_ACK),
        ("close-wait", State.CLOSE_WAIT),
        ("FIN_WAIT", None),
        ("WAIT", None),
        ("", None),
    ],
)
def test_names_parse_in_every_spelling(spelling: str, state: State | None) -> None:
    assert parse_state(spelling) is state


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_every_own_spelling_parses_back(state: State) -> None:
    assert {parse_state(name) for name in (state.name, state.rfc, state.ss)} == {state}


def test_ss_spells_states_as_iproute2_does() -> None:
    assert [state.ss for state in State] == [
        "ESTAB",
        "SYN-SENT",
        "SYN-RECV",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "TIME-WAIT",
        "UNCONN",
        "CLOSE-WAIT",
        "LAST-ACK",
        "LISTEN",
        "CLOSING",
    ]
