"""The arrows of the model against RFC 9293 section 3.10, written down event by event."""

from __future__ import annotations

import re

import pytest

from twdiag.tcp import State
from twdiag.tcp.segments import Event
from twdiag.tcp.transitions import (
    TRANSITIONS,
    Transition,
    transition,
    transitions_from,
    transitions_into,
)

# RFC 9293 section 3.10, read from its beginning to its end: the section, the state, what happens,
# what is sent (-: nothing), the next state.  Calls and segments that the text answers with an
# error, drops or only acknowledges as data are no arrows.  A `?` is a condition in the text.
RFC_9293 = """
3.10.1    CLOSE        PASSIVE_OPEN                -        LISTEN
3.10.1    CLOSE        ACTIVE_OPEN                 SYN      SYN_SENT
3.10.1    LISTEN       ACTIVE_OPEN                 SYN      SYN_SENT
3.10.2    LISTEN       SEND                        SYN      SYN_SENT
3.10.4    LISTEN       CLOSE                       -        CLOSE
3.10.4    SYN_SENT     CLOSE                       -        CLOSE
3.10.4    SYN_RECV     CLOSE                       FIN,ACK  FIN_WAIT1
3.10.4    ESTABLISHED  CLOSE                       FIN,ACK  FIN_WAIT1
3.10.4    CLOSE_WAIT   CLOSE                       FIN,ACK  LAST_ACK
3.10.5    LISTEN       ABORT                       -        CLOSE
3.10.5    SYN_SENT     ABORT                       -        CLOSE
3.10.5    SYN_RECV     ABORT                       RST      CLOSE
3.10.5    ESTABLISHED  ABORT                       RST      CLOSE
3.10.5    FIN_WAIT1    ABORT                       RST      CLOSE
3.10.5    FIN_WAIT2    ABORT                       RST      CLOSE
3.10.5    CLOSE_WAIT   ABORT                       RST      CLOSE
3.10.5    CLOSING      ABORT                       -        CLOSE
3.10.5    LAST_ACK     ABORT                       -        CLOSE
3.10.5    TIME_WAIT    ABORT                       -        CLOSE
3.10.7.1  CLOSE        RECEIVE_SYN                 RST      CLOSE
3.10.7.1  CLOSE        RECEIVE_SYN_ACK             RST      CLOSE
3.10.7.1  CLOSE        RECEIVE_FIN                 RST      CLOSE
3.10.7.1  CLOSE        RECEIVE_ACK_OF_FIN          RST      CLOSE
3.10.7.1  CLOSE        RECEIVE_ACK_OF_SYN          RST      CLOSE
3.10.7.1  CLOSE        RECEIVE_FIN_AND_ACK_OF_FIN  RST      CLOSE
3.10.7.1  CLOSE        RECEIVE_UNACCEPTABLE_ACK    RST      CLOSE
3.10.7.2  LISTEN       RECEIVE_UNACCEPTABLE_ACK    RST      LISTEN
3.10.7.2  LISTEN       RECEIVE_SYN                 SYN,ACK  SYN_RECV
3.10.7.3  SYN_SENT     RECEIVE_UNACCEPTABLE_ACK    RST      SYN_SENT
3.10.7.3  SYN_SENT     RECEIVE_RST                 -        CLOSE
3.10.7.3  SYN_SENT     RECEIVE_SYN_ACK             ACK      ESTABLISHED
3.10.7.3  SYN_SENT     RECEIVE_SYN                 SYN,ACK  SYN_RECV
3.10.7.4  SYN_RECV     RECEIVE_RST                 -        LISTEN
3.10.7.4  SYN_RECV     RECEIVE_RST?                -        CLOSE
3.10.7.4  ESTABLISHED  RECEIVE_RST                 -        CLOSE
3.10.7.4  FIN_WAIT1    RECEIVE_RST                 -        CLOSE
3.10.7.4  FIN_WAIT2    RECEIVE_RST                 -        CLOSE
3.10.7.4  CLOSE_WAIT   RECEIVE_RST                 -        CLOSE
3.10.7.4  CLOSING      RECEIVE_RST                 -        CLOSE
3.10.7.4  LAST_ACK     RECEIVE_RST                 -        CLOSE
3.10.7.4  TIME_WAIT    RECEIVE_RST                 -        CLOSE
3.10.7.4  SYN_RECV     RECEIVE_SYN                 -        LISTEN
3.10.7.4  SYN_RECV     RECEIVE_SYN?                ACK      SYN_RECV
3.10.7.4  ESTABLISHED  RECEIVE_SYN                 ACK      ESTABLISHED
3.10.7.4  FIN_WAIT1    RECEIVE_SYN                 ACK      FIN_WAIT1
3.10.7.4  FIN_WAIT2    RECEIVE_SYN                 ACK      FIN_WAIT2
3.10.7.4  CLOSE_WAIT   RECEIVE_SYN                 ACK      CLOSE_WAIT
3.10.7.4  CLOSING      RECEIVE_SYN                 ACK      CLOSING
3.10.7.4  LAST_ACK     RECEIVE_SYN                 ACK      LAST_ACK
3.10.7.4  TIME_WAIT    RECEIVE_SYN                 SYN,ACK  SYN_RECV
3.10.7.4  TIME_WAIT    RECEIVE_SYN?                ACK      TIME_WAIT
3.10.7.4  SYN_RECV     RECEIVE_ACK_OF_SYN          -        ESTABLISHED
3.10.7.4  SYN_RECV     RECEIVE_UNACCEPTABLE_ACK    RST      SYN_RECV
3.10.7.4  FIN_WAIT1    RECEIVE_ACK_OF_FIN          -        FIN_WAIT2
3.10.7.4  CLOSING      RECEIVE_ACK_OF_FIN          -        TIME_WAIT
3.10.7.4  LAST_ACK     RECEIVE_ACK_OF_FIN          -        CLOSE
3.10.7.4  SYN_RECV     RECEIVE_FIN                 ACK      CLOSE_WAIT
3.10.7.4  ESTABLISHED  RECEIVE_FIN                 ACK      CLOSE_WAIT
3.10.7.4  FIN_WAIT1    RECEIVE_FIN_AND_ACK_OF_FIN  ACK      TIME_WAIT
3.10.7.4  FIN_WAIT1    RECEIVE_FIN                 ACK      CLOSING
3.10.7.4  FIN_WAIT2    RECEIVE_FIN                 ACK      TIME_WAIT
3.10.7.4  CLOSE_WAIT   RECEIVE_FIN                 ACK      CLOSE_WAIT
3.10.7.4  CLOSING      RECEIVE_FIN                 ACK      CLOSING
3.10.7.4  LAST_ACK     RECEIVE_FIN                 ACK      LAST_ACK
3.10.7.4  TIME_WAIT    RECEIVE_FIN                 ACK      TIME_WAIT
3.10.8    SYN_SENT     RETRIES_EXHAUSTED           -        CLOSE
3.10.8    SYN_RECV     RETRIES_EXHAUSTED           -        CLOSE
3.10.8    ESTABLISHED  RETRIES_EXHAUSTED           -        CLOSE
3.10.8    FIN_WAIT1    RETRIES_EXHAUSTED           -        CLOSE
3.10.8    FIN_WAIT2    RETRIES_EXHAUSTED           -        CLOSE
3.10.8    CLOSE_WAIT   RETRIES_EXHAUSTED           -        CLOSE
3.10.8    CLOSING      RETRIES_EXHAUSTED           -        CLOSE
3.10.8    LAST_ACK     RETRIES_EXHAUSTED           -        CLOSE
3.10.8    TIME_WAIT    TIME_WAIT_EXPIRES           -        CLOSE
"""

# Arrows of section 3.10 that the model leaves out on purpose, and why.
LEFT_OUT = {
    ("SYN_RECV", "RECEIVE_SYN"): "Linux keeps the request and sends its SYN+ACK again",
    ("SYN_RECV", "RECEIVE_SYN?"): "the same, after a simultaneous open",
    ("SYN_RECV", "RECEIVE_FIN"): "the FIN has an ACK, which leads through ESTABLISHED first",
    ("FIN_WAIT2", "RETRIES_EXHAUSTED"): "nothing is unacknowledged there; keepalive finds out",
}

# Arrows of the model that section 3.10 does not have, and where they come from.
ADDED = {
    ("ESTABLISHED", "KEEPALIVE_EXHAUSTED"): "section 3.8.4; tcp_keepalive_timer() sends a RST",
    ("CLOSE_WAIT", "KEEPALIVE_EXHAUSTED"): "section 3.8.4; tcp_keepalive_timer() sends a RST",
    ("FIN_WAIT2", "KEEPALIVE_EXHAUSTED"): "section 3.8.4; tcp_keepalive_timer() sends a RST",
    ("FIN_WAIT2", "FIN_WAIT2_EXPIRES"): "RFC 1122 section 4.2.2.13; tcp_fin_timeout",
}

# What RFC 9293 allows and Linux does not do.
NOT_ON_LINUX = {
    ("LISTEN", "ACTIVE_OPEN"),
    ("LISTEN", "SEND"),
    ("SYN_RECV", "CLOSE"),
    ("TIME_WAIT", "ABORT"),
}

# Figure 5 of RFC 9293 and the first of its notes, arrow by arrow, without what is sent.
FIGURE_5 = """
CLOSE LISTEN, CLOSE SYN_SENT, LISTEN CLOSE, LISTEN SYN_RECV, LISTEN SYN_SENT, SYN_RECV LISTEN,
SYN_SENT SYN_RECV, SYN_SENT CLOSE, SYN_SENT ESTABLISHED, SYN_RECV ESTABLISHED, SYN_RECV FIN_WAIT1,
ESTABLISHED FIN_WAIT1, ESTABLISHED CLOSE_WAIT, FIN_WAIT1 FIN_WAIT2, FIN_WAIT1 CLOSING,
FIN_WAIT1 TIME_WAIT, FIN_WAIT2 TIME_WAIT, CLOSING TIME_WAIT, CLOSE_WAIT LAST_ACK, LAST_ACK CLOSE,
TIME_WAIT CLOSE
"""

Row = tuple[str, str, str, str]


def _rfc() -> list[tuple[str, Row]]:
    """Return (section, arrow) of each line of the list."""
    rows = []
    for line in RFC_9293.strip().split("\n"):
        section, before, event, sends, after = line.split()
        rows.append((section, (before, event, sends, after)))
    return rows


def _row(move: Transition) -> Row:
    sends = move.sends.value if move.sends else "-"
    return move.before.name, move.event.name + "?" * bool(move.when), sends, move.after.name


def test_the_model_is_section_3_10_but_for_the_differences_that_are_named() -> None:
    written = {row for _, row in _rfc() if row[:2] not in LEFT_OUT}
    modelled = {row for row in map(_row, TRANSITIONS) if row[:2] not in ADDED}
    assert modelled == written


def test_every_difference_is_one() -> None:
    written = {row[:2] for _, row in _rfc()}
    modelled = {_row(move)[:2] for move in TRANSITIONS}
    assert LEFT_OUT.keys() == written - modelled
    assert ADDED.keys() == modelled - written


def test_what_linux_does_not_do_is_marked() -> None:
    assert {_row(move)[:2] for move in TRANSITIONS if not move.linux} == NOT_ON_LINUX


def test_every_arrow_of_figure_5_is_in_the_model() -> None:
    arrows = {tuple(arrow.split()) for arrow in FIGURE_5.replace("\n", " ").split(",")}
    assert len(arrows) == 21
    assert arrows <= {(move.before.name, move.after.name) for move in TRANSITIONS}


def test_every_transition_says_where_it_is_specified() -> None:
    for move in TRANSITIONS:
        assert re.match(r"RFC \d+ section \d", move.section), move


def test_the_sections_are_those_of_the_list() -> None:
    sections = {row: section for section, row in _rfc()}
    for move in TRANSITIONS:
        cited = re.search(r"RFC 9293 section (3\.10[\d.]*)", move.section)
        if cited is not None:
            assert sections[_row(move)] == cited[1]


def test_an_event_has_one_ordinary_transition_in_a_state() -> None:
    pairs = [(move.before, move.event, move.when) for move in TRANSITIONS]
    assert len(pairs) == len(set(pairs))
    for move in TRANSITIONS:
        ordinary = transition(move.before, move.event)
        assert ordinary is not None
        assert not ordinary.when
        assert (ordinary is move) is not bool(move.when)


def test_whatever_is_not_in_the_model_is_illegal() -> None:
    legal = {(move.before, move.event) for move in TRANSITIONS}
    for state in State:
        for event in Event:
            assert (transition(state, event) is not None) is ((state, event) in legal)


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


def test_only_the_application_leads_from_close_wait_to_last_ack() -> None:
    ways = {move.event: move.after for move in transitions_from(State.CLOSE_WAIT)}
    assert [event for event, after in ways.items() if after is State.LAST_ACK] == [Event.CLOSE]
    assert {event for event, after in ways.items() if after is State.CLOSE} == {
        Event.ABORT,
        Event.RECEIVE_RST,
        Event.RETRIES_EXHAUSTED,
        Event.KEEPALIVE_EXHAUSTED,
    }


@pytest.mark.parametrize("event", [Event.RETRIES_EXHAUSTED, Event.KEEPALIVE_EXHAUSTED])
def test_giving_up_sends_a_rst_only_where_keepalive_does(event: Event) -> None:
    sent = {move.sends.name if move.sends else "" for move in TRANSITIONS if move.event is event}
    assert sent == ({"RST"} if event is Event.KEEPALIVE_EXHAUSTED else {""})


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
