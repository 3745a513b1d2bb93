"""The TCP handshake model: states, transitions, roles, who acts next and what ends each state.

Pure data with a few functions over it; no I/O.  Findings, explanations and drawings are made from
this model, so that no other place repeats how TCP works.

Sources: RFC 9293 section 3.3.2 (figure 5, the state machine), 3.5 (opening), 3.6 (closing) and 3.10
(event processing); what Linux does differently is said beside the state it concerns.

The room's face is the states, which every look needs; what only the reading of a finding needs
(segments, transitions, phases) is imported from its module.
"""

from twdiag.tcp.states import LONGEST_TIME_WAIT_SECONDS, TIME_WAIT_SECONDS, State, parse_state

__all__ = ["LONGEST_TIME_WAIT_SECONDS", "TIME_WAIT_SECONDS", "State", "parse_state"]
