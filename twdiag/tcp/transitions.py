"""Every arrow of the TCP state machine, with its source in RFC 9293 and what Linux does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.tcp.roles import Role
from twdiag.tcp.segments import Event, Segment
from twdiag.tcp.states import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Iterable


class Transition(NamedTuple):
    """One arrow of the state diagram.

    `sends` is the segment that the transition puts on the wire (None: none); `role` is the part in
    the close that the end plays from here on; `section` is where it is specified; `note` is what a
    reader should know; `linux` is False where RFC 9293 allows it and Linux does not do it; `when`
    is a condition, where one event leads to different states (empty: the ordinary case).
    """

    before: State
    event: Event
    sends: Segment | None
    after: State
    role: Role
    section: str
    note: str = ""
    linux: bool = True
    when: str = ""


_ACTIVE, _PASSIVE, _BOTH, _NONE = (
    Role.ACTIVE_CLOSER,
    Role.PASSIVE_CLOSER,
    Role.BOTH,
    Role.NONE,
)
_RFC: Final = "RFC 9293 section "
_ORPHAN: Final = (
    "an orphan gives up after 8 retries, 102 to 205 s by the round-trip time "
    "(net.ipv4.tcp_orphan_retries); no RST is sent"
)
_RETRIES2: Final = (
    "data stayed unacknowledged through net.ipv4.tcp_retries2, 924 s or more by default, or "
    "TCP_USER_TIMEOUT; no RST is sent"
)
_PROBES: Final = (
    "SO_KEEPALIVE: 9 probes after 2 hours of silence by default; the error is ETIMEDOUT"
)

_OPENING: Final = (
    Transition(State.CLOSE, Event.PASSIVE_OPEN, None, State.LISTEN, _NONE, _RFC + "3.10.1"),
    Transition(State.CLOSE, Event.ACTIVE_OPEN, Segment.SYN, State.SYN_SENT, _NONE, _RFC + "3.10.1"),
    Transition(
        State.LISTEN,
        Event.RECEIVE_SYN,
        Segment.SYN_ACK,
        State.SYN_RECV,
        _NONE,
        _RFC + "3.10.7.2",
        "the listener stays in LISTEN; a new socket is made for the connection",
    ),
    Transition(
        State.LISTEN,
        Event.RECEIVE_UNACCEPTABLE_ACK,
        Segment.RST,
        State.LISTEN,
        _NONE,
        _RFC + "3.10.7.2",
        "a segment of a connection that is not, or no longer, known here",
    ),
    Transition(
        State.LISTEN,
        Event.ACTIVE_OPEN,
        Segment.SYN,
        State.SYN_SENT,
        _NONE,
        _RFC + "3.10.1",
        "Linux answers EISCONN instead",
        linux=False,
    ),
    Transition(
        State.LISTEN,
        Event.SEND,
        Segment.SYN,
        State.SYN_SENT,
        _NONE,
        _RFC + "3.10.2",
        "Linux answers EPIPE instead",
        linux=False,
    ),
    Transition(
        State.SYN_SENT,
        Event.RECEIVE_SYN_ACK,
        Segment.ACK,
        State.ESTABLISHED,
        _NONE,
        _RFC + "3.10.7.3",
    ),
    Transition(
        State.SYN_SENT,
        Event.RECEIVE_SYN,
        Segment.SYN_ACK,
        State.SYN_RECV,
        _NONE,
        _RFC + "3.10.7.3",
        "simultaneous open",
    ),
    Transition(
        State.SYN_SENT,
        Event.RECEIVE_UNACCEPTABLE_ACK,
        Segment.RST,
        State.SYN_SENT,
        _NONE,
        _RFC + "3.10.7.3",
        "the other end still has an old connection on these ports; the RST ends it there",
    ),
    Transition(
        State.SYN_RECV,
        Event.RECEIVE_ACK_OF_SYN,
        None,
        State.ESTABLISHED,
        _NONE,
        _RFC + "3.10.7.4",
    ),
    Transition(
        State.SYN_RECV,
        Event.RECEIVE_UNACCEPTABLE_ACK,
        Segment.RST,
        State.SYN_RECV,
        _NONE,
        _RFC + "3.10.7.4",
    ),
)

_OPENING_FAILS: Final = (
    Transition(State.LISTEN, Event.CLOSE, None, State.CLOSE, _NONE, _RFC + "3.10.4"),
    Transition(State.LISTEN, Event.ABORT, None, State.CLOSE, _NONE, _RFC + "3.10.5"),
    Transition(State.SYN_SENT, Event.CLOSE, None, State.CLOSE, _NONE, _RFC + "3.10.4"),
    Transition(State.SYN_SENT, Event.ABORT, None, State.CLOSE, _NONE, _RFC + "3.10.5"),
    Transition(
        State.SYN_SENT,
        Event.RECEIVE_RST,
        None,
        State.CLOSE,
        _NONE,
        _RFC + "3.10.7.3",
        "connect() fails with ECONNREFUSED",
    ),
    Transition(
        State.SYN_SENT,
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _NONE,
        _RFC + "3.10.8",
        "connect() fails with ETIMEDOUT, about 130 s after the first SYN by default",
    ),
    Transition(
        State.SYN_RECV,
        Event.CLOSE,
        Segment.FIN,
        State.FIN_WAIT1,
        _ACTIVE,
        _RFC + "3.10.4",
        "an application on Linux only gets the socket once it is ESTABLISHED",
        linux=False,
    ),
    Transition(
        State.SYN_RECV,
        Event.ABORT,
        Segment.RST,
        State.CLOSE,
        _NONE,
        _RFC + "3.10.5",
        "the listener is closed while the open is under way",
    ),
    Transition(
        State.SYN_RECV,
        Event.RECEIVE_RST,
        None,
        State.LISTEN,
        _NONE,
        _RFC + "3.10.7.4",
        "the half-open connection goes and the listener stays",
    ),
    Transition(
        State.SYN_RECV,
        Event.RECEIVE_RST,
        None,
        State.CLOSE,
        _NONE,
        _RFC + "3.10.7.4",
        "connect() fails: there is no listener to go back to",
        when="after a simultaneous open",
    ),
    Transition(
        State.SYN_RECV,
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _NONE,
        _RFC + "3.10.8",
        "after net.ipv4.tcp_synack_retries retransmissions of the SYN+ACK",
    ),
)

_ACTIVE_CLOSE: Final = (
    Transition(
        State.ESTABLISHED,
        Event.CLOSE,
        Segment.FIN,
        State.FIN_WAIT1,
        _ACTIVE,
        _RFC + "3.10.4",
        "close() or shutdown(SHUT_WR); this end is the active closer from here on",
    ),
    Transition(
        State.FIN_WAIT1,
        Event.RECEIVE_ACK_OF_FIN,
        None,
        State.FIN_WAIT2,
        _ACTIVE,
        _RFC + "3.10.7.4",
        "half-closed: this end can still receive",
    ),
    Transition(
        State.FIN_WAIT1,
        Event.RECEIVE_FIN_AND_ACK_OF_FIN,
        Segment.ACK,
        State.TIME_WAIT,
        _ACTIVE,
        _RFC + "3.10.7.4",
        "the peer had nothing more to send: its ACK and FIN share one segment",
    ),
    Transition(
        State.FIN_WAIT1,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.CLOSING,
        _BOTH,
        _RFC + "3.10.7.4",
        "the FINs crossed: simultaneous close",
    ),
    Transition(
        State.FIN_WAIT2,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.TIME_WAIT,
        _ACTIVE,
        _RFC + "3.10.7.4",
        "the last ACK goes out at once, at the start of TIME_WAIT",
    ),
    Transition(
        State.CLOSING,
        Event.RECEIVE_ACK_OF_FIN,
        None,
        State.TIME_WAIT,
        _BOTH,
        _RFC + "3.10.7.4",
        "both ends keep a TIME_WAIT",
    ),
    Transition(
        State.TIME_WAIT,
        Event.TIME_WAIT_EXPIRES,
        None,
        State.CLOSE,
        _ACTIVE,
        _RFC + "3.10.8",
        f"{TIME_WAIT_SECONDS} s on Linux, compiled in",
    ),
)

_TIME_WAIT: Final = (
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.TIME_WAIT,
        _ACTIVE,
        _RFC + "3.10.7.4",
        "the last ACK was lost: it is sent again and the timer starts anew",
    ),
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_SYN,
        Segment.SYN_ACK,
        State.SYN_RECV,
        _NONE,
        "RFC 9293 section 3.6.1, RFC 6191",
        "only where a listener waits and the SYN is provably new: a higher number or a newer "
        "timestamp, and no older one",
    ),
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_SYN,
        Segment.ACK,
        State.TIME_WAIT,
        _ACTIVE,
        "RFC 9293 section 3.10.7.4, RFC 7323 section 5",
        "the client does not know that ACK; its RST ends the TIME_WAIT, and its next SYN gets in",
        when="that could be an old one (an older timestamp, or no higher number)",
    ),
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_RST,
        None,
        State.CLOSE,
        _ACTIVE,
        "RFC 9293 section 3.10.7.4, RFC 1337 section 3",
        "TIME-WAIT assassination, by a RST of exactly the expected sequence number; "
        "net.ipv4.tcp_rfc1337=1 ignores it",
    ),
    Transition(
        State.TIME_WAIT,
        Event.ABORT,
        None,
        State.CLOSE,
        _ACTIVE,
        _RFC + "3.10.5",
        "on Linux no application holds a TIME_WAIT",
        linux=False,
    ),
)

_PASSIVE_CLOSE: Final = (
    Transition(
        State.ESTABLISHED,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.CLOSE_WAIT,
        _PASSIVE,
        _RFC + "3.10.7.4",
        "the kernel acknowledges; the application reads EOF; this end can still send",
    ),
    Transition(
        State.CLOSE_WAIT,
        Event.CLOSE,
        Segment.FIN,
        State.LAST_ACK,
        _PASSIVE,
        _RFC + "3.10.4",
        "only the application can do this: no timer sends the FIN in its place",
    ),
    Transition(
        State.LAST_ACK,
        Event.RECEIVE_ACK_OF_FIN,
        None,
        State.CLOSE,
        _PASSIVE,
        _RFC + "3.10.7.4",
    ),
)

_ROLES: Final = {
    State.ESTABLISHED: _NONE,
    State.FIN_WAIT1: _ACTIVE,
    State.FIN_WAIT2: _ACTIVE,
    State.CLOSE_WAIT: _PASSIVE,
    State.CLOSING: _BOTH,
    State.LAST_ACK: _PASSIVE,
}
"""The part that an end plays in each state in which both ends know the connection."""


def _in_each(
    states: Iterable[State],
    event: Event,
    sends: Segment | None,
    after: State | None,
    section: str,
    note: str = "",
) -> tuple[Transition, ...]:
    """Return what an event does in each of some states; `after` None stays where it is."""
    return tuple(
        Transition(state, event, sends, after or state, _ROLES[state], section, note)
        for state in states
    )


_REPEATED: Final = (
    *_in_each(
        (State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK),
        Event.RECEIVE_FIN,
        Segment.ACK,
        None,
        _RFC + "3.10.7.4",
        "a retransmitted FIN is acknowledged again",
    ),
    *_in_each(
        _ROLES,
        Event.RECEIVE_SYN,
        Segment.ACK,
        None,
        "RFC 9293 section 3.10.7.4, RFC 5961 section 4",
        "a challenge ACK: a peer that began anew does not know it and answers with RST",
    ),
)

_GIVING_UP: Final = (
    *_in_each(
        (State.ESTABLISHED, State.CLOSE_WAIT),
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _RFC + "3.8.3",
        _RETRIES2,
    ),
    *_in_each(
        (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK),
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _RFC + "3.8.3",
        _ORPHAN,
    ),
    *_in_each(
        (State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT2),
        Event.KEEPALIVE_EXHAUSTED,
        Segment.RST,
        State.CLOSE,
        _RFC + "3.8.4",
        _PROBES,
    ),
    Transition(
        State.FIN_WAIT2,
        Event.FIN_WAIT2_EXPIRES,
        None,
        State.CLOSE,
        _ACTIVE,
        "RFC 1122 section 4.2.2.13; net.ipv4.tcp_fin_timeout",
        "only after close(): a socket that the application still holds has no such timer",
    ),
)

_RESETS: Final = (
    *_in_each(_ROLES, Event.RECEIVE_RST, None, State.CLOSE, _RFC + "3.10.7.4"),
    *_in_each(
        (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSE_WAIT),
        Event.ABORT,
        Segment.RST,
        State.CLOSE,
        _RFC + "3.10.5",
        "SO_LINGER with 0 s, or close() with unread data: no TIME_WAIT at either end",
    ),
    *_in_each(
        (State.CLOSING, State.LAST_ACK),
        Event.ABORT,
        None,
        State.CLOSE,
        _RFC + "3.10.5",
        "both FINs are sent: there is nothing to reset any more",
    ),
)

_CLOSED: Final = tuple(
    Transition(
        State.CLOSE,
        event,
        Segment.RST,
        State.CLOSE,
        _NONE,
        _RFC + "3.10.7.1",
        "there is no connection on these ports",
    )
    for event in (
        Event.RECEIVE_SYN,
        Event.RECEIVE_SYN_ACK,
        Event.RECEIVE_FIN,
        Event.RECEIVE_ACK_OF_FIN,
        Event.RECEIVE_ACK_OF_SYN,
        Event.RECEIVE_FIN_AND_ACK_OF_FIN,
        Event.RECEIVE_UNACCEPTABLE_ACK,
    )
)

TRANSITIONS: Final[tuple[Transition, ...]] = (
    *_OPENING,
    *_OPENING_FAILS,
    *_ACTIVE_CLOSE,
    *_TIME_WAIT,
    *_PASSIVE_CLOSE,
    *_REPEATED,
    *_GIVING_UP,
    *_RESETS,
    *_CLOSED,
)
"""Every transition; where an event has several in one state, the ordinary one comes first."""

_BY_STATE_AND_EVENT: Final = {(t.before, t.event): t for t in TRANSITIONS if not t.when}


def transition(state: State, event: Event) -> Transition | None:
    """Return what an event ordinarily does in a state, None where it is illegal or changes nothing.

    Where it may do something else on a condition, transitions_from() has that too.
    """
    return _BY_STATE_AND_EVENT.get((state, event))


def transitions_from(state: State) -> tuple[Transition, ...]:
    """Return every legal transition out of a state, in the model's order."""
    return tuple(t for t in TRANSITIONS if t.before is state)


def transitions_into(state: State) -> tuple[Transition, ...]:
    """Return every legal transition into a state, in the model's order."""
    return tuple(t for t in TRANSITIONS if t.after is state)
