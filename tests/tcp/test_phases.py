"""What it means to be in a state: roles, whose move it is, and the ordinary close."""

from __future__ import annotations

import pytest

from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.tcp.phases import ORDINARY_CLOSE, PHASES
from twdiag.tcp.roles import Role, Turn
from twdiag.tcp.transitions import TRANSITIONS


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
    assert {state.name: PHASES[state].role for state in State} == roles


def test_a_transition_that_stays_in_the_close_keeps_its_role() -> None:
    for move in TRANSITIONS:
        before, after = PHASES[move.before].role, PHASES[move.after].role
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
        (State.CLOSE_WAIT, Turn.LOCAL_APPLICATION),
        (State.FIN_WAIT2, Turn.PEER_APPLICATION),
        (State.FIN_WAIT1, Turn.PEER_KERNEL),
        (State.LAST_ACK, Turn.PEER_KERNEL),
        (State.CLOSING, Turn.PEER_KERNEL),
        (State.TIME_WAIT, Turn.LOCAL_TIMER),
        (State.SYN_SENT, Turn.PEER_KERNEL),
    ],
)
def test_whose_move_it_is(state: State, actor: Turn) -> None:
    assert PHASES[state].waits_for is actor


def test_time_wait_is_60_seconds() -> None:
    assert TIME_WAIT_SECONDS == 60
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
