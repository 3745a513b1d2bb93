"""The names and numbers of states, as the kernel, the RFC and ss have them."""

from __future__ import annotations

import pytest

from twdiag.tcp import State, parse_state


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
