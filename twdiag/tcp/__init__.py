"""The TCP handshake model: states, transitions, roles, who acts next and what ends each state.

Pure data with a few functions over it; no I/O.  Findings, explanations and drawings are made from
this module, so that no other place repeats how TCP works.

Sources: RFC 9293 section 3.3.2 (figure 5, the state machine), 3.5 (opening), 3.6 (closing) and 3.10
(event processing); what Linux does differently is said beside the state it concerns.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

TIME_WAIT_SECONDS: Final = 60
"""How long Linux keeps a TIME_WAIT: TCP_TIMEWAIT_LEN in include/net/tcp.h, compiled in."""

LONGEST_TIME_WAIT_SECONDS: Final = 64
"""How long a TIME_WAIT can hold its port: the timer wheel removes it up to 2.048 s late at HZ=250,
up to 4.096 s at HZ=1000 (kernel/time/timer.c)."""

CLOSE_SEGMENTS: Final = 4
"""Segments of the ordinary close: FIN, ACK, FIN, ACK."""


class State(enum.IntEnum):
    """A TCP state, numbered and named as the kernel does (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11

    @property
    def rfc(self) -> str:
        """The name in RFC 9293, such as FIN-WAIT-1."""
        return _RFC_NAMES[self]

    @property
    def ss(self) -> str:
        """The name that ss(8) prints, such as ESTAB."""
        return _SS_NAMES.get(self, self.rfc)


_RFC_NAMES: Final = {
    State.ESTABLISHED: "ESTABLISHED",
    State.SYN_SENT: "SYN-SENT",
    State.SYN_RECV: "SYN-RECEIVED",
    State.FIN_WAIT1: "FIN-WAIT-1",
    State.FIN_WAIT2: "FIN-WAIT-2",
    State.TIME_WAIT: "TIME-WAIT",
    State.CLOSE: "CLOSED",
    State.CLOSE_WAIT: "CLOSE-WAIT",
    State.LAST_ACK: "LAST-ACK",
    State.LISTEN: "LISTEN",
    State.CLOSING: "CLOSING",
}
_SS_NAMES: Final = {
    State.ESTABLISHED: "ESTAB",
    State.SYN_RECV: "SYN-RECV",
    State.CLOSE: "UNCONN",
}


def _squeeze(name: str) -> str:
    return "".join(c for c in name.upper() if c.isalnum())


_BY_NAME: Final = {
    **{_squeeze(s.name): s for s in State},
    **{_squeeze(s.rfc): s for s in State},
    **{_squeeze(s.ss): s for s in State},
}


def parse_state(name: str) -> State | None:
    """Return the state that a name means in the kernel, RFC, ss or netstat spelling, else None.

    Case, blanks, `-` and `_` do not matter: TIME-WAIT, time_wait and TimeWait are one state.
    """
    return _BY_NAME.get(_squeeze(name))


class Role(enum.Enum):
    """Which part an end plays in closing a connection."""

    ACTIVE_CLOSER = "active closer"
    PASSIVE_CLOSER = "passive closer"
    BOTH = "both (simultaneous close)"
    NONE = "not closing"


class Actor(enum.Enum):
    """Who has to act so that a socket leaves its state."""

    LOCAL_APPLICATION = "the local application"
    PEER_APPLICATION = "the application at the other end"
    PEER_KERNEL = "the kernel at the other end"
    LOCAL_TIMER = "a timer of the local kernel"
    NOBODY = "nobody"


class Event(enum.Enum):
    """What can happen to one end: a call of its application, a segment, or a timer."""

    PASSIVE_OPEN = "the application calls listen()"
    ACTIVE_OPEN = "the application calls connect()"
    SEND = "the application sends on a listening socket"
    CLOSE = "the application closes"
    ABORT = "the application aborts"
    RECEIVE_SYN = "a SYN arrives"
    RECEIVE_SYN_ACK = "a SYN+ACK arrives"
    RECEIVE_ACK_OF_SYN = "the ACK of the SYN arrives"
    RECEIVE_ACK_OF_FIN = "the ACK of the FIN arrives"
    RECEIVE_FIN = "a FIN arrives"
    RECEIVE_FIN_AND_ACK_OF_FIN = "a FIN arrives that also acknowledges the own FIN"
    RECEIVE_UNACCEPTABLE_ACK = "an ACK arrives of something never sent"
    RECEIVE_RST = "a RST arrives"
    RETRIES_EXHAUSTED = "the last retransmission stays unanswered"
    FIN_WAIT2_EXPIRES = "the orphan's FIN_WAIT2 timer runs out"
    TIME_WAIT_EXPIRES = "the 2MSL timer runs out"


class Segment(enum.Enum):
    """A segment as far as the state machine is concerned: its control bits.

    A FIN of an established connection always carries the ACK bit too (RFC 9293 section 3.10.4).
    """

    SYN = "SYN"
    SYN_ACK = "SYN,ACK"
    ACK = "ACK"
    FIN = "FIN,ACK"
    RST = "RST"


class Transition(NamedTuple):
    """One arrow of the state diagram.

    `sends` is the segment that the transition puts on the wire (None: none); `role` is the part in
    the close that the end plays from here on; `section` is where it is specified; `note` is what a
    reader should know; `linux` is False where RFC 9293 allows it and Linux does not do it.
    """

    before: State
    event: Event
    sends: Segment | None
    after: State
    role: Role
    section: str
    note: str = ""
    linux: bool = True


_ACTIVE, _PASSIVE, _BOTH, _NONE = (
    Role.ACTIVE_CLOSER,
    Role.PASSIVE_CLOSER,
    Role.BOTH,
    Role.NONE,
)
_RFC = "RFC 9293 section "

TRANSITIONS: Final[tuple[Transition, ...]] = (
    # Opening.
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
        Event.SEND,
        Segment.SYN,
        State.SYN_SENT,
        _NONE,
        _RFC + "3.10.2",
        "Linux answers ENOTCONN instead",
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
    # Giving up while opening.
    Transition(State.LISTEN, Event.CLOSE, None, State.CLOSE, _NONE, _RFC + "3.10.4"),
    Transition(State.SYN_SENT, Event.CLOSE, None, State.CLOSE, _NONE, _RFC + "3.10.4"),
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
        Event.RECEIVE_RST,
        None,
        State.LISTEN,
        _NONE,
        _RFC + "3.10.7.4",
        "after a passive open the half-open connection goes and the listener stays",
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
    # The active closer.
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
        "the final ACK goes out at once, at the start of TIME_WAIT",
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
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.TIME_WAIT,
        _ACTIVE,
        _RFC + "3.10.7.4",
        "the final ACK was lost: it is sent again and the timer starts anew",
    ),
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_SYN,
        Segment.SYN_ACK,
        State.SYN_RECV,
        _NONE,
        "RFC 9293 section 3.6.1, RFC 6191",
        "only where a listener waits and the SYN is provably new: larger sequence number or later "
        "timestamp",
    ),
    Transition(
        State.TIME_WAIT,
        Event.RECEIVE_RST,
        None,
        State.CLOSE,
        _ACTIVE,
        "RFC 1337 section 3",
        "TIME-WAIT assassination, by a RST of exactly the expected sequence number; "
        "net.ipv4.tcp_rfc1337=1 ignores it",
    ),
    # The passive closer.
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
        "only the application can do this: no timer leads out of CLOSE_WAIT",
    ),
    Transition(
        State.LAST_ACK,
        Event.RECEIVE_ACK_OF_FIN,
        None,
        State.CLOSE,
        _PASSIVE,
        _RFC + "3.10.7.4",
    ),
    Transition(
        State.CLOSE_WAIT,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.CLOSE_WAIT,
        _PASSIVE,
        _RFC + "3.10.7.4",
        "a retransmitted FIN is acknowledged again",
    ),
    Transition(
        State.CLOSING,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.CLOSING,
        _BOTH,
        _RFC + "3.10.7.4",
        "a retransmitted FIN is acknowledged again",
    ),
    Transition(
        State.LAST_ACK,
        Event.RECEIVE_FIN,
        Segment.ACK,
        State.LAST_ACK,
        _PASSIVE,
        _RFC + "3.10.7.4",
        "a retransmitted FIN is acknowledged again",
    ),
    Transition(
        State.LAST_ACK,
        Event.RECEIVE_SYN,
        Segment.ACK,
        State.LAST_ACK,
        _PASSIVE,
        "RFC 9293 section 3.10.7.4, RFC 5961 section 4",
        "a challenge ACK: the sender of the SYN does not know it and answers with RST",
    ),
    # Giving up while closing.
    Transition(
        State.FIN_WAIT1,
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _ACTIVE,
        _RFC + "3.8.3",
        "an orphan gives up after 8 retries, about 108 s (net.ipv4.tcp_orphan_retries)",
    ),
    Transition(
        State.CLOSING,
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _BOTH,
        _RFC + "3.8.3",
        "an orphan gives up after 8 retries, about 108 s (net.ipv4.tcp_orphan_retries)",
    ),
    Transition(
        State.LAST_ACK,
        Event.RETRIES_EXHAUSTED,
        None,
        State.CLOSE,
        _PASSIVE,
        _RFC + "3.8.3",
        "an orphan gives up after 8 retries, about 108 s (net.ipv4.tcp_orphan_retries)",
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
    # Resets.
    *(
        Transition(state, Event.RECEIVE_RST, None, State.CLOSE, role, _RFC + "3.10.7.4")
        for state, role in (
            (State.ESTABLISHED, _NONE),
            (State.FIN_WAIT1, _ACTIVE),
            (State.FIN_WAIT2, _ACTIVE),
            (State.CLOSE_WAIT, _PASSIVE),
            (State.CLOSING, _BOTH),
            (State.LAST_ACK, _PASSIVE),
        )
    ),
    *(
        Transition(
            state,
            Event.ABORT,
            Segment.RST,
            State.CLOSE,
            role,
            _RFC + "3.10.5",
            "SO_LINGER with 0 s, or close() with unread data: no TIME_WAIT at either end",
        )
        for state, role in (
            (State.SYN_RECV, _NONE),
            (State.ESTABLISHED, _NONE),
            (State.FIN_WAIT1, _ACTIVE),
            (State.FIN_WAIT2, _ACTIVE),
            (State.CLOSE_WAIT, _PASSIVE),
        )
    ),
    # A closed end answers whatever is not a RST with a RST.
    *(
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
    ),
)

_BY_STATE_AND_EVENT: Final = {(t.before, t.event): t for t in TRANSITIONS}


def transition(state: State, event: Event) -> Transition | None:
    """Return what an event does in a state, or None where it is not legal or changes nothing."""
    return _BY_STATE_AND_EVENT.get((state, event))


def transitions_from(state: State) -> tuple[Transition, ...]:
    """Return every legal transition out of a state, in the model's order."""
    return tuple(t for t in TRANSITIONS if t.before is state)


def transitions_into(state: State) -> tuple[Transition, ...]:
    """Return every legal transition into a state, in the model's order."""
    return tuple(t for t in TRANSITIONS if t.after is state)


class Phase(NamedTuple):
    """What it means that a socket is in a state.

    `step` is the number of the close segment (1 FIN, 2 its ACK, 3 the other FIN, 4 the last ACK)
    that put the socket there, None outside the close; `waits_for` is whose move it is; `next` says
    that move; `ends` says what ends the state and when.
    """

    state: State
    role: Role
    step: int | None
    meaning: str
    waits_for: Actor
    next: str
    ends: str
    section: str


PHASES: Final[dict[State, Phase]] = {
    p.state: p
    for p in (
        Phase(
            State.LISTEN,
            _NONE,
            None,
            "a server waits for connections",
            Actor.PEER_APPLICATION,
            "a client connects, or the server closes the listener",
            "only when the application closes it",
            _RFC + "3.3.2",
        ),
        Phase(
            State.SYN_SENT,
            _NONE,
            None,
            "a SYN went out and nothing came back yet",
            Actor.PEER_KERNEL,
            "the other end answers with SYN+ACK, or refuses with RST",
            "net.ipv4.tcp_syn_retries retransmissions (6; since Linux 6.5 after "
            "tcp_syn_linear_timeouts, 4 more), about 130 s, then ETIMEDOUT",
            _RFC + "3.5",
        ),
        Phase(
            State.SYN_RECV,
            _NONE,
            None,
            "a SYN was answered with SYN+ACK; the last ACK of the open is awaited",
            Actor.PEER_KERNEL,
            "the client's ACK arrives",
            "net.ipv4.tcp_synack_retries retransmissions (5: about 63 s)",
            _RFC + "3.5",
        ),
        Phase(
            State.ESTABLISHED,
            _NONE,
            None,
            "both ends may send",
            Actor.LOCAL_APPLICATION,
            "either application closes first and becomes the active closer",
            "never by itself: an idle connection lives until an end closes or keepalive fails",
            _RFC + "3.3.2",
        ),
        Phase(
            State.FIN_WAIT1,
            _ACTIVE,
            1,
            "this end closed first; its FIN is not acknowledged yet",
            Actor.PEER_KERNEL,
            "the peer's kernel acknowledges the FIN",
            "an orphan after 8 retries (about 108 s); a socket still held after "
            "net.ipv4.tcp_retries2",
            _RFC + "3.6",
        ),
        Phase(
            State.FIN_WAIT2,
            _ACTIVE,
            2,
            "this end closed first and the FIN is acknowledged; the peer has not closed yet",
            Actor.PEER_APPLICATION,
            "the peer's application closes, and its FIN arrives",
            "after close(): net.ipv4.tcp_fin_timeout (60 s); while the application holds the "
            "socket: never",
            _RFC + "3.6",
        ),
        Phase(
            State.CLOSE_WAIT,
            _PASSIVE,
            2,
            "the peer closed first; the local application has not closed yet",
            Actor.LOCAL_APPLICATION,
            "the local application calls close()",
            "never by itself: no timer and no sysctl ends it",
            _RFC + "3.6",
        ),
        Phase(
            State.CLOSING,
            _BOTH,
            3,
            "both ends closed at the same moment; the own FIN is not acknowledged yet",
            Actor.PEER_KERNEL,
            "the peer's kernel acknowledges the FIN",
            "an orphan after 8 retries (about 108 s)",
            _RFC + "3.6",
        ),
        Phase(
            State.LAST_ACK,
            _PASSIVE,
            3,
            "the peer closed first, this end closed too; its FIN is not acknowledged yet",
            Actor.PEER_KERNEL,
            "the active closer's kernel sends the last ACK",
            "an orphan after 8 retries (about 108 s)",
            _RFC + "3.6",
        ),
        Phase(
            State.TIME_WAIT,
            _ACTIVE,
            4,
            "this end closed first and the close is complete; the ports are held so that a lost "
            "last ACK can be repeated and old segments cannot reach a new connection",
            Actor.LOCAL_TIMER,
            "the timer runs out by itself",
            f"{TIME_WAIT_SECONDS} s, compiled into Linux; no sysctl shortens it",
            _RFC + "3.6.1",
        ),
        Phase(
            State.CLOSE,
            _NONE,
            None,
            "no connection",
            Actor.NOBODY,
            "a new socket may use the ports",
            "it is the end",
            _RFC + "3.3.2",
        ),
    )
}


class CloseStep(NamedTuple):
    """One segment of the ordinary close, and the state of both ends after it has arrived.

    `sender` is the role of the end that sends it; `cause` is what made it go out.
    """

    number: int
    sender: Role
    segment: Segment
    cause: str
    active: State
    passive: State


ORDINARY_CLOSE: Final[tuple[CloseStep, ...]] = (
    CloseStep(
        1,
        _ACTIVE,
        Segment.FIN,
        "its application closes first",
        State.FIN_WAIT1,
        State.CLOSE_WAIT,
    ),
    CloseStep(
        2,
        _PASSIVE,
        Segment.ACK,
        "its kernel acknowledges at once",
        State.FIN_WAIT2,
        State.CLOSE_WAIT,
    ),
    CloseStep(
        3,
        _PASSIVE,
        Segment.FIN,
        "its application closes too",
        State.TIME_WAIT,
        State.LAST_ACK,
    ),
    CloseStep(
        4,
        _ACTIVE,
        Segment.ACK,
        "its kernel acknowledges at once",
        State.TIME_WAIT,
        State.CLOSE,
    ),
)
"""The 4-way close of RFC 9293 figure 12, as both ends live through it."""


def closing_role(state: State) -> Role:
    """Return which part in the close a socket of this state plays."""
    return PHASES[state].role
