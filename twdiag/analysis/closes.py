"""Tell from what was gathered of a socket how its connection ended, and join what else is known.

The last trace event of a socket carries its cookie, and so does the announcement of its death,
which goes to its own network namespace only: the two are joined by it.
"""

from __future__ import annotations

import socket
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from twdiag.model.closes import IN_INTERRUPT, Close, ClosedBy, How, Opened, Why
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twdiag.analysis.tracks import Finished, Track
    from twdiag.model.closes import Closer, Death, SocketGone, Traffic

_T = TypeVar("_T")

# Plain numbers: comparing with an enum costs a call, ten times for each connection.
_ESTABLISHED: Final = int(State.ESTABLISHED)
_SYN_SENT: Final = int(State.SYN_SENT)
_FIN_WAIT1: Final = int(State.FIN_WAIT1)
_FIN_WAIT2: Final = int(State.FIN_WAIT2)
_CLOSE_WAIT: Final = int(State.CLOSE_WAIT)
_LAST_ACK: Final = int(State.LAST_ACK)
_CLOSING: Final = int(State.CLOSING)

# In Python 3.11 a member of an enum costs a call each time it is named.
_HERE, _PEER, _BOTH = ClosedBy.HERE, ClosedBy.PEER, ClosedBy.BOTH
_FIN, _RST, _FIN_RST, _TIMEOUT = How.FIN, How.RST, How.FIN_RST, How.TIMEOUT
_OUT = Opened.OUT
_BY_CLOSE, _SHUTDOWN, _LATE_DATA = Why.CLOSE, Why.SHUTDOWN, Why.LATE_DATA

_SAME_CALL_NS: Final = 100_000

# enum sk_rst_reason, include/net/rstreason.h.
_REASONS: Final = {
    "TCP_ABORT_ON_CLOSE": Why.UNREAD,
    "TCP_ABORT_ON_DATA": Why.LATE_DATA,
    "TCP_KEEPALIVE_TIMEOUT": Why.KEEPALIVE,
    "TCP_DISCONNECT_WITH_DATA": Why.LINGER,
}


class Clock(NamedTuple):
    """How the kernel's moments are told: Unix time minus CLOCK_MONOTONIC, and when we began, ns."""

    offset: int
    began: int

    def unix(self, at: int) -> float:
        """Return a moment as Unix time, in seconds."""
        return (at + self.offset) / 1e9


class Join:
    """Joins ended connections with the announcements of their sockets' deaths, by cookie.

    `deaths_matter` is False where announcements are not had: then every connection of the host is
    told at once, whatever its namespace.
    """

    def __init__(
        self, clock: Clock, name_of: Callable[[int], Closer], *, deaths_matter: bool = True
    ) -> None:
        self._clock = clock
        self._name_of = name_of
        self._deaths_matter = deaths_matter
        self._finished: dict[int, Finished] = {}
        self._deaths: dict[int, Death] = {}

    def ended(self, finished: Iterable[Finished]) -> Iterator[Close]:
        """Take in connections of which all is told, and yield those whose death is known."""
        for end in finished:
            if not self._deaths_matter:
                if not end.track.told:
                    yield self.tell(end.track, end.gone, None)
                continue
            death = self._deaths.pop(end.gone.cookie, None)
            if death is None:
                self._finished[end.gone.cookie] = end
            elif not end.track.told:
                yield self.tell(end.track, end.gone, death)

    def died(self, deaths: Iterable[Death]) -> Iterator[Close]:
        """Take in announcements, and yield the connections of which all is told."""
        for death in deaths:
            end = self._finished.pop(death.cookie, None)
            if end is None:
                self._deaths[death.cookie] = death
            elif not end.track.told:
                yield self.tell(end.track, end.gone, death)

    def untold(self, before: int) -> list[Death]:
        """Return, and forget, the deaths announced before a moment that no trace event explains."""
        return _take(self._deaths, lambda death: death.at < before)

    def unannounced(self, before: int) -> list[Finished]:
        """Return, and forget, what ended before a moment and was not announced.

        It is another namespace's, unless announcements were lost.
        """
        ends = _take(self._finished, lambda end: end.gone.at < before)
        return [end for end in ends if not end.track.told]

    def tell(self, track: Track, gone: SocketGone | None, death: Death | None) -> Close:
        """Return one connection's end."""
        place, clock = track.place, self._clock
        first, how, why = _verdict(track, gone, death)
        closer = _closer(track, gone)
        began = track.born if track.born is not None else clock.began
        first_at = track.first_at or track.ended_at
        local, remote = _texts(place.family, place.addresses)
        sent, received, idle, rtt = _traffic(track, gone, death, how)
        close_wait = None
        if track.fin_at is not None:
            close_wait = ((track.closed_at or track.ended_at) - track.fin_at) / 1e9
        connected = track.before != _SYN_SENT
        lived = max(0, first_at - began) / 1e9 if connected else None
        if idle is not None and lived is not None and track.born is not None:
            idle = min(idle, lived)  # it is counted in jiffies
        requests = None if death is None else requests_at_most(death.traffic)
        values = (
            clock.unix(track.ended_at),
            place.family,
            local,
            place.local_port,
            remote,
            place.remote_port,
            first,
            how,
            why,
            track.dying is not None,
            track.opened,
            None if closer is None else self._name_of(closer),
            lived,
            connected and track.born is None,
            close_wait,
            idle,
            sent,
            received,
            rtt,
            gone is None,
            True,
            requests,
            why is _LATE_DATA and track.before == _FIN_WAIT1,
            None if death is None or death.disconnected else death.unacked,
            death is not None and peer_last(death.traffic),
        )
        return tuple.__new__(Close, values)  # as Close() does, without its call


def _take(waiting: dict[int, _T], due: Callable[[_T], bool]) -> list[_T]:
    cookies = []
    for cookie, value in waiting.items():  # in the order of arrival
        if not due(value):
            break
        cookies.append(cookie)
    return [waiting.pop(cookie) for cookie in cookies]


def _verdict(
    track: Track, gone: SocketGone | None, death: Death | None
) -> tuple[ClosedBy | None, How | None, Why | None]:
    """Return who closed first, how and why."""
    old = track.before
    if old == _SYN_SENT:
        return _never_connected(track)
    first = track.first or _FIRST.get(old)
    ordinary = old not in (_ESTABLISHED, _CLOSE_WAIT, _FIN_WAIT1)
    if track.reset_received:
        how = _RST if first is None else _FIN_RST
        return first or _PEER, how, Why.RESET
    if track.reset_sent is not None or (track.ended_in_task and not ordinary):
        why = _reset_reason(track, death)
        if why in (Why.KEEPALIVE, Why.NO_ANSWER):
            return first or _HERE, _TIMEOUT, why
        return first or _HERE, _RST if first is None else _FIN_RST, why
    if not ordinary:
        why = Why.FIN_UNANSWERED if old == _FIN_WAIT1 else Why.NO_ANSWER
        return first or _HERE, _TIMEOUT, why
    if old == _LAST_ACK and _gave_up(death):
        return first, _TIMEOUT, Why.FIN_UNANSWERED
    if track.dying is not None:
        return first, _FIN, track.dying
    return first, _FIN, _SHUTDOWN if _was_shut_down(track, gone) else _BY_CLOSE


_FIRST: Final = {
    _FIN_WAIT1: _HERE,
    _FIN_WAIT2: _HERE,
    _CLOSING: _BOTH,
    _CLOSE_WAIT: _PEER,
    _LAST_ACK: _PEER,
}
"""Who closed first, where the first events of a connection were not seen."""


def _never_connected(track: Track) -> tuple[ClosedBy | None, How | None, Why | None]:
    if track.reset_received:
        return _PEER, _RST, Why.REFUSED
    if track.ended_in_task:
        return _HERE, None, Why.GIVEN_UP
    return _HERE, _TIMEOUT, Why.SYN_UNANSWERED


def _reset_reason(track: Track, death: Death | None) -> Why:
    """Return why this end sent a RST; before Linux 6.10 only from what the socket has left."""
    if track.unaccepted:
        return Why.NEVER_ACCEPTED
    why = _REASONS.get(track.reset_sent or "")
    if why is not None:
        return why
    if death is not None and death.disconnected:
        return Why.LINGER
    traffic = None if death is None else death.traffic
    if not track.reset_sent or track.reset_sent == "NOT_SPECIFIED":
        if traffic is not None and traffic.probes and not track.ended_in_task:
            return Why.KEEPALIVE
        if not track.ended_in_task:
            return Why.NO_ANSWER
        if death is not None and death.unread > (track.fin_at is not None):
            return Why.UNREAD
    elif death is None and track.reset_sent == "TCP_STATE":
        return Why.LINGER  # or a disconnect of another kind, which the announcement would tell
    return Why.ABORT


def _gave_up(death: Death | None) -> bool:
    traffic = None if death is None else death.traffic
    return traffic is not None and (traffic.retransmits > 0 or traffic.backoff > 0)


def _was_shut_down(track: Track, gone: SocketGone | None) -> bool:
    """Return whether the descriptor stayed open after our FIN: shutdown(), then close()."""
    if track.shutdown or gone is None:
        return True
    if gone.flags & IN_INTERRUPT or track.first is _PEER:
        return False
    return not track.ended_in_task or gone.at - track.ended_at > _SAME_CALL_NS


def _closer(track: Track, gone: SocketGone | None) -> int | None:
    """Return the thread that closed our end, at the latest the one that closed its descriptor."""
    if track.closer is not None:
        return track.closer
    if gone is not None and track.closed_at is None and not gone.flags & IN_INTERRUPT:
        return gone.tid
    return None


def _traffic(
    track: Track, gone: SocketGone | None, death: Death | None, how: How | None
) -> tuple[int | None, int | None, float | None, float | None]:
    """Return (bytes sent, bytes received, seconds idle before the first close, RTT in seconds)."""
    traffic = None if death is None or death.disconnected else death.traffic
    if traffic is None or gone is None or death is None or track.before == _SYN_SENT:
        return None, None, None, None
    fin_received = (
        track.fin_at is not None or track.first is not _HERE or (death.unread == 1 and how is _FIN)
    )
    if track.first is None and how in (_RST, _TIMEOUT):
        fin_received = False
    since = (gone.at - (track.first_at or track.ended_at)) / 1e6
    return (
        bytes_sent(traffic, track.opened),
        max(0, traffic.received - fin_received),
        idle_before(traffic, since),
        traffic.rtt / 1e6 if traffic.rtt else None,
    )


def requests_at_most(traffic: Traffic | None) -> int | None:
    """Return how many requests a connection carried at most, None where that is not known.

    Each takes a segment of data at least, and so does its answer.  Linux counts them since 4.6.
    """
    if traffic is None:
        return None
    return min(traffic.data_segments_in, traffic.data_segments_sent) or None


def bytes_sent(traffic: Traffic, opened: Opened | None) -> int:
    """Return how many bytes of data the peer acknowledged: neither our SYN nor our FIN."""
    once = traffic.acked
    if traffic.sent is not None and traffic.resent is not None:
        once = traffic.sent - traffic.resent
    return max(0, min(once, traffic.acked - (opened is _OUT)))


def peer_last(traffic: Traffic | None) -> bool:
    """Return whether the last data of a connection came from the peer."""
    return traffic is not None and traffic.last_received < traffic.last_sent


def idle_before(traffic: Traffic, since: float, blur: float = 10.0) -> float | None:
    """Return for how long no data had passed before a moment `since` ms ago, in seconds.

    None where data passed after that moment, which hides what was before; of the peer's alone
    (its request met a FIN) it does not hide what this end sent before.  The kernel counts in
    jiffies, up to 10 ms each.
    """
    last = min(traffic.last_sent, traffic.last_received) - since
    if last < -blur and peer_last(traffic):
        last = traffic.last_sent - since
    return None if last < -blur else max(0.0, last) / 1e3


@lru_cache(maxsize=4096)
def _texts(family: int, addresses: bytes) -> tuple[str, str]:
    """Return the local and the remote address of a change of state."""
    if family == socket.AF_INET:
        return address_text(addresses[:4]), address_text(addresses[4:8])
    return address_text(addresses[8:24]), address_text(addresses[24:])


@lru_cache(maxsize=4096)
def address_text(packed: bytes) -> str:
    """Return an address as it is read; a v4-mapped one as the IPv4 address that it is."""
    if len(packed) == 16 and packed.startswith(_MAPPED):
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def end_of(raw: bytes) -> tuple[str, int] | None:
    """Return (address, port) of a struct sockaddr_in or sockaddr_in6, None where it is neither."""
    if len(raw) < _SOCKADDR_IN6:
        return None
    family, port = int.from_bytes(raw[:2], sys.byteorder), int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET:
        return address_text(raw[4:8]), port
    return (address_text(raw[8:24]), port) if family == socket.AF_INET6 else None


_SOCKADDR_IN6: Final = 28
_MAPPED: Final = bytes(10) + b"\xff\xff"
