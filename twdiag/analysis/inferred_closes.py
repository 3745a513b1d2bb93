"""Infer how TCP connections ended from what their sockets left: tcp_info, a TIME_WAIT, counters.

For those who may not trace.  Who closed first stands in the row that is left (TIME_WAIT or
FIN_WAIT2: this end), and whether our FIN was acknowledged in the bytes that were; which process
closed is not to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.closes import address_text, bytes_sent, peer_last, requests_at_most
from twdiag.model.closes import Close, ClosedBy, How, Opened, Why
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twdiag.analysis.closes import Clock
    from twdiag.model.closes import Death, Traffic

# In Python 3.11 a member of an enum costs a call each time it is named.
_HERE, _PEER, _BOTH = ClosedBy.HERE, ClosedBy.PEER, ClosedBy.BOTH
_FIN, _RST, _FIN_RST, _TIMEOUT = How.FIN, How.RST, How.FIN_RST, How.TIMEOUT
_IN, _OUT = Opened.IN, Opened.OUT
_TIME_WAIT, _FIN_WAIT2, _LISTEN = State.TIME_WAIT, State.FIN_WAIT2, State.LISTEN

NEVER: Final = 0xFFFFFFFF
"""tcpi_min_rtt of a connection on which nothing was ever acknowledged."""

UNREAD: Final = "TcpExt.TCPAbortOnClose"
LINGER: Final = "TcpExt.TCPAbortOnData"
TIMED_OUT: Final = "TcpExt.TCPAbortOnTimeout"
NO_ROOM: Final = "TcpExt.TCPTimeWaitOverflow"

_LATE: Final = "late data"
"""Not a counter of its own: what the aborts by SO_LINGER 0 leave of TCPAbortOnData."""
_AT_ONCE: Final = 20
"""What counts as the same moment, in milliseconds: two jiffies of the slowest clock."""


class Remains(NamedTuple):
    """A dead socket, and what stood under its addresses right after.

    `left` is TIME_WAIT or FIN_WAIT2, another state where the addresses are in use again, None where
    nothing is left.  `listened` says whether the local end belongs to a listener.
    """

    death: Death
    left: State | None
    listened: bool


def is_connection(death: Death) -> bool:
    """Return whether a socket that died ever had to do with a peer; listeners had not."""
    return death.traffic is None or death.traffic.own_mss > 0


def needs_listener(death: Death) -> bool:
    """Return whether only a listener can tell who opened a connection that died.

    Our SYN counts as a byte, and so does our FIN: none is an incoming connection's, both are an
    outgoing one's.
    """
    extra = None if death.disconnected else _beyond_data(death)
    return extra is None or (extra == 1 and not _fin_delivered(death.traffic))


class Inference:
    """Tells connections' ends from what they left behind, batch by batch.

    `begun` are the kernel's counters at the start.  Each counts events of one kind, so that a
    socket that could have ended in two ways is told apart by whether its counter has risen.
    """

    def __init__(self, clock: Clock, begun: Mapping[str, int]) -> None:
        self._clock = clock
        self._begun = begun
        self._claimed: dict[str, int] = {}
        self._earlier: Sequence[Remains] = ()

    def tell(
        self,
        batch: Sequence[Remains],
        before: Mapping[str, int] | None = None,
        after: Mapping[str, int] | None = None,
        later: Sequence[Remains] = (),
    ) -> list[Close]:
        """Return the ends of a batch of connections.

        The counters are read before and after the batch was received.  Without them, what they
        would settle stays open.  `later` are sockets that are told with the next batch and can be
        the other ends of these.
        """
        before, after = before or {}, after or {}
        waiting = {
            _tuple(r.death) for r in (*self._earlier, *batch, *later) if r.left is _TIME_WAIT
        }
        self._earlier = batch
        wanted: dict[str, int] = {}
        for remains in batch:
            name = _undecided(remains)
            if name:
                wanted[name] = wanted.get(name, 0) + 1
        # SO_LINGER 0 before late data: both count as TCPAbortOnData.
        names = sorted(wanted, key=lambda name: name == _LATE)
        answers = {name: self._answer(name, wanted[name], before, after) for name in names}
        full = bool(self._risen(NO_ROOM, after))
        return [self._tell_one(r, waiting, answers, full) for r in batch]

    def _answer(
        self, name: str, number: int, before: Mapping[str, int], after: Mapping[str, int]
    ) -> bool | None:
        """Return whether all of a number of sockets were counted there, None for some of them."""
        late, name = name == _LATE, LINGER if name == _LATE else name
        least, most = self._risen(name, before), self._risen(name, after)
        if least is None or most is None:
            return False if late else None  # the rarer case
        claimed = self._claimed.get(name, 0)
        if most - claimed >= number and (not late or least - claimed >= number):
            self._claimed[name] = claimed + number
            return True
        if late:
            return False
        self._claimed[name] = max(claimed, most)
        return False if most <= claimed else None

    def _risen(self, name: str, counters: Mapping[str, int]) -> int | None:
        if name not in counters or name not in self._begun:
            return None
        return counters[name] - self._begun[name]

    def _tell_one(
        self,
        remains: Remains,
        waiting: set[tuple[bytes, int, bytes, int]],
        answers: Mapping[str, bool | None],
        full: bool,
    ) -> Close:
        death = remains.death
        opened = _opened(remains)
        first, how, why = _verdict(remains, opened, answers)
        if remains.left is _TIME_WAIT and _mirrored(death) in waiting:
            first = _BOTH
        if full and remains.left is None and first is _PEER and how is _FIN:
            first = None  # this end's TIME_WAIT may have found no room
        traffic = None if death.disconnected else death.traffic
        sent = received = idle = lived = rtt = None
        if traffic is not None and traffic.min_rtt != NEVER:
            sent = bytes_sent(traffic, opened)
            received = max(0, traffic.received - _fin_received(death, first, how))
            idle = min(traffic.last_sent, traffic.last_received) / 1e3
            lived = max(traffic.last_sent, traffic.last_received) / 1e3
            rtt = traffic.rtt / 1e6 if traffic.rtt else None
        return Close(
            ended_at=self._clock.unix(death.at),
            family=death.family,
            local=address_text(death.local),
            local_port=death.local_port,
            remote=address_text(death.remote),
            remote_port=death.remote_port,
            first=first,
            how=how,
            why=why,
            opened=opened,
            lived=lived,
            older=lived is not None and bool(sent) and bool(received),
            idle=idle,
            sent=sent,
            received=received,
            rtt=rtt,
            observed=False,
            requests=requests_at_most(traffic),
            unanswered=None if death.disconnected else death.unacked,
            peer_last=peer_last(traffic),
        )


def _opened(remains: Remains) -> Opened | None:
    """Return who opened a connection: a listener's is the peer's, else the SYN's byte tells."""
    if remains.listened or remains.left is _LISTEN:
        return _IN
    extra = None if remains.death.disconnected else _beyond_data(remains.death)
    if extra is None:
        failed = remains.death.traffic is not None and remains.death.traffic.min_rtt == NEVER
        return _OUT if failed else None
    one_fin = extra == 1 and _fin_delivered(remains.death.traffic)
    return _IN if extra <= 0 or one_fin else _OUT


def _fin_delivered(traffic: Traffic | None) -> bool:
    """Return whether a FIN of ours surely arrived: a segment beside the SYN and those of data."""
    return (
        traffic is not None
        and not traffic.resent
        and traffic.delivered - traffic.data_segments_sent > 1
    )


def _beyond_data(death: Death) -> int | None:
    """Return how many of our SYN (if we opened) and our FIN were sent; None for unknown.

    All that was written is acknowledged or in the Send-Q; the rest of it is data.
    """
    traffic = death.traffic
    if traffic is None or traffic.sent is None or traffic.resent is None:
        return None
    return traffic.acked + death.unacked - (traffic.sent - traffic.resent) - traffic.waiting


def _fin_acked(death: Death, opened: Opened | None) -> bool | None:
    extra = _beyond_data(death)
    return None if extra is None else not death.unacked and extra - (opened is _OUT) >= 1


def _undecided(remains: Remains) -> str:
    """Return the counter that settles how a connection ended, "" where none has to."""
    death = remains.death
    traffic = death.traffic
    if traffic is None:
        return ""
    if death.disconnected:
        return LINGER if traffic.min_rtt != NEVER else ""
    if remains.left in (_TIME_WAIT, _FIN_WAIT2):
        return ""
    if _fin_acked(death, _opened(remains)):
        return "" if death.unread or traffic.last_ack > _AT_ONCE else _LATE
    if _tried_again(traffic):
        return TIMED_OUT
    return UNREAD if death.unread else ""


def _verdict(
    remains: Remains, opened: Opened | None, answers: Mapping[str, bool | None]
) -> tuple[ClosedBy | None, How | None, Why | None]:
    """Return who closed first, how and why, as far as it can be reasoned."""
    death, traffic = remains.death, remains.death.traffic
    if remains.left in (_TIME_WAIT, _FIN_WAIT2):
        return _HERE, _FIN, None
    if traffic is None:
        return None, None, None
    if death.disconnected:
        if traffic.min_rtt == NEVER:
            return None, None, Why.CONNECT_FAILED
        return _HERE, _RST, Why.LINGER if answers.get(LINGER) else Why.ABORT
    acked = _fin_acked(death, opened)
    if acked is None:
        return None, None, None
    if acked:
        return _without_row(death, traffic, answers.get(_LATE))
    if _tried_again(traffic):
        return _timed_out(traffic, answers.get(TIMED_OUT))
    if traffic.min_rtt == NEVER:
        if traffic.segments_in:
            return _PEER, _RST, Why.REFUSED
        return _HERE, None, Why.GIVEN_UP
    if death.unread:
        ours = answers.get(UNREAD)
        if ours is None:
            return None, _RST, None
        if not ours:
            return _PEER, _RST, Why.RESET
        # The peer's FIN counts as one unread byte, and may stand behind others.
        return _HERE if death.unread == 1 else None, _RST, Why.UNREAD
    return _PEER, _RST, Why.RESET


def _without_row(
    death: Death, traffic: Traffic, late_data: bool | None
) -> tuple[ClosedBy | None, How | None, Why | None]:
    """Judge a connection whose FIN was acknowledged and that left no row."""
    if not traffic.received or late_data:  # ours came first, and a RST took the row
        return _HERE, _FIN_RST, Why.LATE_DATA if late_data else None
    if death.unread > 1:
        return None, _FIN_RST, Why.UNREAD
    if traffic.last_ack > _AT_ONCE and not death.unread:
        return None, None, None  # not ended by the last ACK: the peer may have reset it meanwhile
    return _PEER, _FIN, None


def _timed_out(
    traffic: Traffic, counted: bool | None
) -> tuple[ClosedBy | None, How | None, Why | None]:
    if counted is False:
        return _PEER, _RST, Why.RESET if traffic.min_rtt != NEVER else Why.REFUSED
    if traffic.min_rtt == NEVER:
        return _HERE, _TIMEOUT, Why.SYN_UNANSWERED
    return _HERE, _TIMEOUT, Why.KEEPALIVE if traffic.probes else Why.NO_ANSWER


def _tried_again(traffic: Traffic) -> bool:
    return bool(traffic.retransmits or traffic.backoff or traffic.probes)


def _fin_received(death: Death, first: ClosedBy | None, how: How | None) -> bool:
    """Return whether the bytes received hold the peer's FIN, as far as that shows."""
    if how is _FIN:
        return first is not _HERE or death.unread == 1
    return False


def _tuple(death: Death) -> tuple[bytes, int, bytes, int]:
    return death.local, death.local_port, death.remote, death.remote_port


def _mirrored(death: Death) -> tuple[bytes, int, bytes, int]:
    return death.remote, death.remote_port, death.local, death.local_port
