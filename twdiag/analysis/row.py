"""What one row tells: which side made it, who closed first, how old it is, how long it has left."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.half_closed import age_bounds, is_full_orphan, orphan_age, orphan_seconds
from twdiag.census.intake import CLIENTS_FROM
from twdiag.model.sockets import TIMER_TIME_WAIT
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.tcp.phases import PHASES
from twdiag.tcp.roles import Role

if TYPE_CHECKING:
    from twdiag.analysis.view import View
    from twdiag.model.sockets import Socket


class SocketSide(enum.Enum):
    """Which side of a connection a socket is; a listener and a bound socket have none yet."""

    LISTENER = "listener"
    BOUND = "bound"
    SERVER = "server"
    CLIENT = "client"
    UNKNOWN = "unknown"


_FIRST: Final = {
    Role.ACTIVE_CLOSER: "here",
    Role.PASSIVE_CLOSER: "peer",
    Role.BOTH: "both",
}
CLOSED_FIRST: Final = {state: _FIRST.get(phase.role) for state, phase in PHASES.items()}
"""Who closed first by the state: "here", "peer" or "both", None where nobody has closed."""


class Age(NamedTuple):
    """How many seconds a socket has been closing, at least and at most; None is unknown."""

    low: float | None = None
    high: float | None = None


_UNKNOWN: Final = Age()
_HALF_CLOSED: Final = (State.CLOSE_WAIT, State.FIN_WAIT2)


def side_of(view: View, socket: Socket) -> SocketSide:
    """Return which side a socket is, in the words of the View, from ports and listeners."""
    if socket.bound:
        return SocketSide.BOUND
    if socket.state is State.LISTEN:
        return SocketSide.LISTENER
    if view.is_server(socket):
        return SocketSide.SERVER
    if view.is_client(socket):
        return SocketSide.CLIENT
    # From a fixed port to that of a service: a proxy's source port, NFS, BGP.
    fixed = socket.local_port not in view.budget and socket.remote_port < CLIENTS_FROM
    return SocketSide.CLIENT if fixed and not socket.mptcp else SocketSide.UNKNOWN


def left_of(socket: Socket, fin_timeout: int | None = None) -> float | None:
    """Return after how many seconds its timer ends a socket that no process holds.

    That of a mini-socket, and of what will be one; None for all others.
    """
    if socket.timer == TIMER_TIME_WAIT:
        return socket.expires / 1000
    if is_full_orphan(socket) and (fin_timeout or 0) > TIME_WAIT_SECONDS:
        return socket.expires / 1000 + orphan_seconds(fin_timeout or 0)
    return None


def age_of(socket: Socket, fin_timeout: int | None) -> Age:
    """Return how long a socket has been in its closing state, as far as its timer or ages tell.

    A TIME_WAIT's timer runs for 60 s, an orphan's in FIN_WAIT2 as long as tcp_fin_timeout lets it;
    a timer that has more left has another length, and tells nothing.
    """
    if socket.timer == TIMER_TIME_WAIT:
        left = socket.expires / 1000
        if socket.state is State.TIME_WAIT:
            age = TIME_WAIT_SECONDS - left if left <= TIME_WAIT_SECONDS else None
        elif fin_timeout is not None and left <= orphan_seconds(fin_timeout):
            age = orphan_age(left, fin_timeout)
        else:
            age = None
        return Age(age, age)
    if socket.state in _HALF_CLOSED:
        return Age(*age_bounds(socket))
    return _UNKNOWN
