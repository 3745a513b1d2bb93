"""The 11 states of TCP, numbered and named as the kernel, the RFC and ss do."""

from __future__ import annotations

import enum
from typing import Final

TIME_WAIT_SECONDS: Final = 60
"""How long Linux keeps a TIME_WAIT: TCP_TIMEWAIT_LEN in include/net/tcp.h, compiled in."""

LONGEST_TIME_WAIT_SECONDS: Final = 64
"""How long a TIME_WAIT can hold its port: the timer wheel removes it up to 2.048 s late at HZ=250,
up to 4.096 s at HZ=1000 (kernel/time/timer.c)."""


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
