"""Gather how the connections of listeners idle and end, from looks at them and from their ends.

A look shows for how long each connection has been idle; if it received data by the next look, its
client sent again after at least so long a pause.  A TLS server says close_notify before it closes,
which hides the idle time at the end: then the last look tells it.  Bounded: the newest ends of so
many listeners.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.closes import ClosedBy, How, Opened, Why
from twdiag.model.idling import LEAST_IDLE, IdleEnd, Idling, Watched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from twdiag.model.closes import Close
    from twdiag.model.idling import Standing

    _Ends = tuple[str, int, str, int]

MOST_LISTENERS: Final = 1_000
MOST_ENDS: Final = 1_000
_MOST_RECENT: Final = 10_000
_FORGOTTEN: Final = 55.0
"""Seconds after which a RST no longer means a lost request.

The closed socket is gone after 60 s, and from then on a keepalive probe draws a RST too.
"""
_LAST_WORDS: Final = 0.2
"""Seconds in which a client answers the FIN with its last words, which nobody has to read.

A TLS close_notify, MySQL's COM_QUIT, a GOAWAY: they draw a RST as a request does.  A request that
comes as soon is not told from them, unless it crossed the FIN.  Later ones may still be last words:
a pool says goodbye when it cleans up, and the answer to a FIN takes a round trip.
"""
_LONGEST_LAST_WORDS: Final = 90
"""Bytes that last words have at most: a close_notify 24 to 86 (KERNEL A), with a GOAWAY below 80.

The FIN counts one.
"""


@dataclass(slots=True)
class _Use:
    """What looks have shown of one open connection; `pause` is since this end sent last.

    `at` is the Unix time of the last look, None where that was not told.
    """

    cookie: int
    received: int
    pause: float | None
    at: float | None
    longest: float | None = None


class _Late(NamedTuple):
    """Data that a RST answered at a Unix time; `size` in bytes, None where that was not seen."""

    at: float
    size: int | None


@dataclass(slots=True)
class _End:
    """A connection that this end closed first while idle, as it is told so far.

    `answers` is for how many seconds after the close a client's last words can be its answer.
    """

    ended_at: float
    idle: float
    remote: str
    reused_after: float | None
    requests: int | None
    lost: bool = False
    late: bool = False
    client: str | None = None
    answers: float = _LAST_WORDS

    def meets(self, data: _Late) -> None:
        """Take in data that came after the close, or crossed it."""
        after, large = data.at - self.ended_at, (data.size or 0) > _LONGEST_LAST_WORDS
        if self.lost and data.size is not None and not large:
            self.lost, self.late = False, True  # it crossed the FIN, and may be last words
        elif (large or after > self.answers) and after < _FORGOTTEN:
            self.reads(data.size)

    def reads(self, size: int | None) -> None:
        """Take in that so many bytes came after the close, None where that was not seen."""
        self.lost |= (size or 0) > _LONGEST_LAST_WORDS
        self.late = not self.lost


@dataclass(slots=True)
class _Listener:
    """What was seen of the connections of one local end."""

    ends: deque[_End] = field(default_factory=lambda: deque(maxlen=MOST_ENDS))
    by_peers: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_ENDS))
    open_for: float | None = None


class _Gone(NamedTuple):
    """A connection that was established at one look, and at the next one, `at`, no more."""

    use: _Use
    at: float | None


class IdleWatch:
    """Watches how connections idle and end."""

    def __init__(self) -> None:
        self._ports: frozenset[int] = frozenset()
        self._uses: dict[_Ends, _Use] = {}
        self._gone: dict[_Ends, _Gone] = {}
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._recent: dict[_Ends, _End] = {}
        self._met: dict[_Ends, _Late] = {}

    def look(
        self, standing: Iterable[Standing], ports: Collection[int], at: float | None = None
    ) -> None:
        """Take in the established connections of listeners, and the ports that these listen on.

        `at` is the Unix time of the look.
        """
        self._ports = frozenset(ports)
        uses: dict[_Ends, _Use] = {}
        for one in standing:
            ends = one.local, one.local_port, one.remote, one.remote_port
            uses[ends] = _used(self._uses.get(ends), one, at)
            self._gone.pop(ends, None)  # that was an earlier connection
            if one.answered and one.idle >= LEAST_IDLE:
                listener = self._of(one.local, one.local_port)
                if listener is not None:
                    listener.open_for = max(one.idle, listener.open_for or 0.0)
        if len(self._gone) >= _MOST_RECENT:
            self._gone.clear()
        for ends, use in self._uses.items():
            if ends not in uses:
                self._gone[ends] = _Gone(use, at)
        self._uses = uses

    def add(self, close: Close) -> None:
        """Take in a connection's end."""
        if close.opened is not Opened.IN and (self._recent or close.why is Why.RESET):
            self._other_end(close)
        if not self._is_server(close):
            return
        use, gone_at = self._use_of(close)
        here = close.first is ClosedBy.HERE and close.how in _ENDED and not close.dying
        idle = close.idle
        if here and use is not None:
            idle = _idle_by_looks(close, use, gone_at)
        if idle is None or idle < LEAST_IDLE:
            return
        if here:
            self._closed_here(close, idle, use, gone_at)
        elif close.first is ClosedBy.PEER and close.how is How.FIN:
            listener = self._of(close.local, close.local_port)
            if listener is not None:
                listener.by_peers.append(idle)

    def _use_of(self, close: Close) -> tuple[_Use | None, float | None]:
        """Return what looks have shown of a connection, and when one saw it closed."""
        ends = close.local, close.local_port, close.remote, close.remote_port
        gone = self._gone.pop(ends, None)
        return (self._uses.get(ends), None) if gone is None else gone

    def _other_end(self, close: Close) -> None:
        """Take in what the client's end tells, where that is here too."""
        ends = close.remote, close.remote_port, close.local, close.local_port
        if close.why is Why.RESET:
            self.late_data(ends, close.ended_at, close.unanswered)
        end = self._recent.get(ends)
        if end is not None and close.closer is not None:
            end.client = close.closer.name

    def late_data(self, ends: _Ends, at: float, size: int | None = None) -> None:
        """Take in that a RST answered data for a connection, whose local end is the first one.

        `size` is in bytes, None where that was not seen.
        """
        end = self._recent.get(ends)
        if end is not None:
            end.meets(_Late(at, size))
            return
        if len(self._met) >= _MOST_RECENT:
            self._met.clear()
        # The close itself may be told later; what tells the size is worth more.
        known = self._met.get(ends)
        self._met[ends] = _Late(at, size if known is None or known.size is None else known.size)

    def watched(self, seconds: float, *, sees_lost: bool = False, since: float = 0.0) -> Watched:
        """Return what was gathered in so many seconds, without ends before a Unix time.

        `sees_lost` says whether late_data() was told of all.
        """
        idling = tuple(
            Idling(
                address,
                port,
                tuple(
                    IdleEnd(
                        e.ended_at,
                        e.idle,
                        e.remote,
                        e.reused_after,
                        e.requests,
                        e.lost,
                        e.late,
                        e.client,
                    )
                    for e in sorted(listener.ends, key=lambda end: end.ended_at)
                    if e.ended_at >= since
                ),
                tuple(listener.by_peers),
                listener.open_for,
            )
            for (address, port), listener in self._listeners.items()
        )
        return Watched(seconds, idling, sees_lost)

    def _is_server(self, close: Close) -> bool:
        if close.opened is None:
            return close.local_port in self._ports
        return close.opened is Opened.IN

    def _closed_here(
        self, close: Close, idle: float, use: _Use | None, gone_at: float | None
    ) -> None:
        listener = self._of(close.local, close.local_port)
        if listener is None:
            return
        ends = close.local, close.local_port, close.remote, close.remote_port
        met = self._met.pop(ends, None)
        late = _read_late(close, use, gone_at)
        received = None if late else close.received
        reused_after = None if use is None else _reused_after(use, received)
        end = _End(close.ended_at, idle, close.remote, reused_after, close.requests, close.crossed)
        end.answers += 2 * (close.rtt or 0.0)
        if met is not None:
            end.meets(met)
        if late:
            end.reads(late)
        listener.ends.append(end)
        if len(self._recent) >= _MOST_RECENT:
            self._recent.clear()
        self._recent[ends] = end

    def _of(self, address: str, port: int) -> _Listener | None:
        """Return what is known of a local end, None where there are too many of them."""
        found = self._listeners.get((address, port))
        if found is None and len(self._listeners) < MOST_LISTENERS:
            found = self._listeners[address, port] = _Listener()
        return found


_ENDED: Final = (How.FIN, How.FIN_RST)


def _idle_by_looks(close: Close, use: _Use, gone_at: float | None) -> float | None:
    """Return for how long the client had been silent when this end closed.

    What the last look says of an answered connection is worth more than the end, where that does
    not tell, or tells later than a look that saw the connection closed: a server that waits for the
    client's FIN, or reads on, has closed long before.
    """
    told = close.idle if close.idle is not None and close.idle >= LEAST_IDLE else None
    if use.pause is None or use.at is None or close.received is None:
        return told
    if gone_at is not None:
        # The least of these of several ends, which a timeout is measured by, is hardly too late.
        at_most = use.pause + max(0.0, gone_at - use.at)
        late = _read_late(close, use, gone_at)  # what is told began with that
        if late or told is None or told > at_most + _LAST_WORDS:
            return at_most
    # The peer's FIN can count as a byte.
    if told is not None or close.received > use.received + 1:
        return told
    return use.pause + max(0.0, close.ended_at - use.at)


def _read_late(close: Close, use: _Use | None, gone_at: float | None) -> int:
    """Return how many bytes this end has received after it had closed, and did not answer.

    Apache reads on for a while after its FIN, and no RST answers what comes then.
    """
    if use is None or gone_at is None or use.pause is None or close.received is None:
        return 0
    if not close.peer_last or close.ended_at - gone_at < _LAST_WORDS:
        return 0
    more = close.received - use.received
    return more if more > 1 else 0  # the peer's FIN can count as a byte


def _reused_after(use: _Use, received: int | None) -> float | None:
    """Return the longest pause before more data, given all that had been received at the end."""
    # The peer's FIN can count as a byte.
    again = received is not None and received > use.received + 1
    return _longer(use.longest, use.pause) if again else use.longest


def _longer(one: float | None, other: float | None) -> float | None:
    return one if other is None else max(other, one or 0.0)


def _used(before: _Use | None, now: Standing, at: float | None) -> _Use:
    """Return what is known of a connection with one more look at it."""
    pause = now.idle if now.answered else None
    if before is None or before.cookie != now.cookie:
        return _Use(now.cookie, now.received, pause, at)
    if now.received > before.received:
        before.longest = _longer(before.longest, before.pause)
    before.received, before.pause, before.at = now.received, pause, at
    return before
