"""What one look at one network namespace adds up to: few sockets one by one, all others as sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.named import NamedTuple
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.sockets import Socket

MINUTE: Final = 60
"""Seconds of closing history that the timers of TIME_WAITs hold."""

RECENT_SECONDS: Final = 10
"""The window of a steady rate; what came before it is compared with it."""

NOW_SECONDS: Final = 3
"""The window of a rate that changes: it has to end within so many seconds of a burst's end."""


class History(NamedTuple):
    """When the TIME_WAITs of a group began: `seconds` has 60 counts, newest last.

    `total` also counts those past their 60 s that the kernel has not removed yet.
    """

    seconds: tuple[int, ...] = (0,) * MINUTE
    total: int = 0

    @property
    def mean(self) -> float:
        """Closes per second over the minute."""
        return sum(self.seconds) / MINUTE

    @property
    def recent(self) -> float:
        """Closes per second now: of the last ten seconds if these are steady, else of three.

        Steady are seconds that differ no more than chance makes them differ (Poisson, three
        standard deviations), and whose last three are in the mean no more or less than all ten.  Of
        three seconds the median counts, so no single burst.
        """
        window, latest = self.seconds[-RECENT_SECONDS:], self.seconds[-NOW_SECONDS:]
        mean = sum(window) / RECENT_SECONDS
        if not any(latest):
            return 0.0
        drift = abs(sum(latest) / NOW_SECONDS - mean)
        # Of a part and the whole, both Poisson: mean * (1/3 - 1/10) is the variance.
        level = drift <= 3 * (mean * (1 / NOW_SECONDS - 1 / RECENT_SECONDS)) ** 0.5 + 1
        steady = level and all(abs(second - mean) <= 3 * mean**0.5 + 1 for second in window)
        return mean if steady else float(sorted(latest)[NOW_SECONDS // 2])

    @property
    def before(self) -> float:
        """The mean closing rate of the fifty seconds before those ten."""
        return sum(self.seconds[:-RECENT_SECONDS]) / (MINUTE - RECENT_SECONDS)


class Tally(NamedTuple):
    """The sockets of a group: how many in each state, and when its TIME_WAITs began.

    `orphans` counts its FIN_WAIT2 sockets after close() by the whole seconds they have left, 66
    for more.
    """

    states: Mapping[State, int]
    time_wait: History
    orphans: Mapping[int, int]

    @property
    def sockets(self) -> int:
        """All sockets of the group."""
        return sum(self.states.values())


class Listener(NamedTuple):
    """A listening address and port; SO_REUSEPORT copies are folded into one.

    `sockets` are its LISTEN sockets; `any_ipv4` and `any_ipv6` tell which families a wildcard
    takes.
    """

    address: str
    port: int
    sockets: tuple[Socket, ...]
    any_ipv4: bool = False
    any_ipv6: bool = False

    def takes(self, address: str) -> bool:
        """Return whether connections to a local address of this port belong to the listener."""
        return (self.any_ipv6 if ":" in address else self.any_ipv4) or address == self.address


class Server(NamedTuple):
    """The connections of a listener; `clients` has the remote addresses with the most closed ones.

    Where `sampled` is True, the clients' counts are estimates from a part of the rows.
    """

    listener: Listener
    tally: Tally
    clients: tuple[tuple[str, int], ...] = ()
    sampled: bool = False

    @property
    def closed_first(self) -> int:
        """Sockets that the server closed first and that are still there."""
        states = self.tally.states
        return sum(states.get(s, 0) for s in (State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2))


class Destination(NamedTuple):
    """The sockets of this host's clients to one (source, destination, port).

    `inode` is that of one live socket, 0 where none was seen.
    """

    source: str
    address: str
    port: int
    tally: Tally
    inode: int = 0

    @property
    def sockets(self) -> int:
        """All sockets on the tuple; each holds one local port."""
        return self.tally.sockets


class LocalEnd(NamedTuple):
    """The connected sockets of a local port that nobody listens on.

    `remote_ports` counts the distinct remote ports from 10000 up, which clients have.
    """

    port: int
    addresses: tuple[str, ...]
    remote_ports: int
    tally: Tally


NO_TALLY: Final = Tally({}, History(), {})


class Census(NamedTuple):
    """All sockets of a namespace: `sockets` one by one, the others counted.

    Kept one by one are LISTEN, bound, SYN_SENT, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING, and
    FIN_WAIT2 with an owner; TIME_WAIT, FIN_WAIT2 after close(), ESTABLISHED and SYN_RECV are
    counted.  Where ages are seen, an ESTABLISHED socket that waits for accept() is kept too.  The
    groups count the kept ones too.

    `all` is everything that is connected, `by_client` the connections from ports that connect()
    hands out, `fixed` those from other ports to a service.  `destinations` has the largest ones,
    the largest first, and `left_out` counts the sockets to destinations too small to be told apart.
    `ports_by_source` has the distinct local ports of the connections made from the busiest local
    addresses.  `examples` has a socket in each state that occurs.
    """

    sockets: tuple[Socket, ...] = ()
    listeners: Mapping[tuple[str, int], Listener] = {}
    all: Tally = NO_TALLY
    by_client: Tally = NO_TALLY
    fixed: Tally = NO_TALLY
    servers: tuple[Server, ...] = ()
    destinations: tuple[Destination, ...] = ()
    left_out: int = 0
    left_overs: tuple[LocalEnd, ...] = ()
    ports_by_source: Mapping[str, frozenset[int]] = {}
    examples: Mapping[State, Socket] = {}

    def in_state(self, *states: State) -> list[Socket]:
        """Return the kept sockets in these states."""
        return [socket for socket in self.sockets if socket.state in states and not socket.bound]

    @property
    def states(self) -> Mapping[State, int]:
        """How many sockets are in each state that occurs, bound ones left out."""
        listening = sum(len(listener.sockets) for listener in self.listeners.values())
        counts = dict(self.all.states)
        if listening:
            counts[State.LISTEN] = listening
        return {state: counts[state] for state in State if counts.get(state)}
