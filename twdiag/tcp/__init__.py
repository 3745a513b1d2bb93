"""The TCP handshake model: states, transitions, roles, who acts next and what ends each state.

Pure data with a few functions over it; no I/O.  Findings, explanations and drawings are made from
this model, so that no other place repeats how TCP works.

Sources: RFC 9293 section 3.3.2 (figure 5, the state machine), 3.5 (opening), 3.6 (closing) and 3.10
(event processing); what Linux does differently is said beside the state it concerns.
"""

from twdiag.tcp.phases import ORDINARY_CLOSE, PHASES, CloseStep, Phase
from twdiag.tcp.roles import Actor, Role
from twdiag.tcp.segments import Event, Segment
from twdiag.tcp.states import (
    LONGEST_TIME_WAIT_SECONDS,
    TIME_WAIT_SECONDS,
    State,
    parse_state,
)
from twdiag.tcp.transitions import (
    TRANSITIONS,
    Transition,
    transition,
    transitions_from,
    transitions_into,
)

__all__ = [
    "LONGEST_TIME_WAIT_SECONDS",
    "ORDINARY_CLOSE",
    "PHASES",
    "TIME_WAIT_SECONDS",
    "TRANSITIONS",
    "Actor",
    "CloseStep",
    "Event",
    "Phase",
    "Role",
    "Segment",
    "State",
    "Transition",
    "parse_state",
    "transition",
    "transitions_from",
    "transitions_into",
]
