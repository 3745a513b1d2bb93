"""What it means that a socket is in a state: its role, whose move it is, and what ends it."""

from __future__ import annotations

from typing import Final

from twdiag.named import NamedTuple
from twdiag.tcp.roles import Role, Turn
from twdiag.tcp.segments import Segment
from twdiag.tcp.states import TIME_WAIT_SECONDS, State

_ACTIVE, _PASSIVE, _BOTH, _NONE = (
    Role.ACTIVE_CLOSER,
    Role.PASSIVE_CLOSER,
    Role.BOTH,
    Role.NONE,
)
_RFC: Final = "RFC 9293 section "
_ORPHAN: Final = "an orphan after 8 retries (102 to 205 s, by the round-trip time)"


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
    waits_for: Turn
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
            Turn.PEER_APPLICATION,
            "a client connects, or the server closes the listener",
            "only when the application closes it",
            _RFC + "3.3.2",
        ),
        Phase(
            State.SYN_SENT,
            _NONE,
            None,
            "a SYN went out and nothing came back yet",
            Turn.PEER_KERNEL,
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
            Turn.PEER_KERNEL,
            "the client's ACK arrives",
            "net.ipv4.tcp_synack_retries retransmissions (5: about 63 s)",
            _RFC + "3.5",
        ),
        Phase(
            State.ESTABLISHED,
            _NONE,
            None,
            "both ends may send",
            Turn.LOCAL_APPLICATION,
            "either application closes first and becomes the active closer",
            "never by itself while idle: an end closes, keepalive fails, or sent data stays "
            "unacknowledged (net.ipv4.tcp_retries2)",
            _RFC + "3.3.2",
        ),
        Phase(
            State.FIN_WAIT1,
            _ACTIVE,
            1,
            "this end closed first; its FIN is not acknowledged yet",
            Turn.PEER_KERNEL,
            "the peer's kernel acknowledges the FIN",
            f"{_ORPHAN}; a socket still held after net.ipv4.tcp_retries2",
            _RFC + "3.6",
        ),
        Phase(
            State.FIN_WAIT2,
            _ACTIVE,
            2,
            "this end closed first and the FIN is acknowledged; the peer has not closed yet",
            Turn.PEER_APPLICATION,
            "the peer's application closes, and its FIN arrives",
            "after close(): net.ipv4.tcp_fin_timeout (60 s); while the application holds the "
            "socket: never, unless keepalive fails",
            _RFC + "3.6",
        ),
        Phase(
            State.CLOSE_WAIT,
            _PASSIVE,
            2,
            "the peer closed first; the local application has not closed yet",
            Turn.LOCAL_APPLICATION,
            "the local application calls close()",
            "never by itself, unless keepalive or unacknowledged data finds the peer gone; "
            "no sysctl closes it",
            _RFC + "3.6",
        ),
        Phase(
            State.CLOSING,
            _BOTH,
            3,
            "both ends closed at the same moment; this end's FIN is not acknowledged yet",
            Turn.PEER_KERNEL,
            "the peer's kernel acknowledges the FIN",
            _ORPHAN,
            _RFC + "3.6",
        ),
        Phase(
            State.LAST_ACK,
            _PASSIVE,
            3,
            "the peer closed first, this end closed too; its FIN is not acknowledged yet",
            Turn.PEER_KERNEL,
            "the active closer's kernel sends the last ACK",
            _ORPHAN,
            _RFC + "3.6",
        ),
        Phase(
            State.TIME_WAIT,
            _ACTIVE,
            4,
            "this end closed first and the close is complete; the ports are held so that a lost "
            "last ACK can be repeated and old segments cannot reach a new connection",
            Turn.LOCAL_TIMER,
            "the timer runs out by itself",
            f"{TIME_WAIT_SECONDS} s, compiled into Linux; no sysctl shortens it",
            _RFC + "3.6.1",
        ),
        Phase(
            State.CLOSE,
            _NONE,
            None,
            "no connection",
            Turn.NOBODY,
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
        "its kernel acknowledges, without asking the application",
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
