"""Gather the kernel's trace events of each socket, until it is gone.

An event names a socket by its address in the kernel, so that all events between its birth and its
end are one connection's.  The last one carries the socket's cookie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.closes import (
    IN_INTERRUPT,
    ClosedBy,
    Killed,
    Opened,
    ResetReceived,
    ResetSent,
    SocketGone,
    StateChange,
    ThreadEnds,
    Why,
)
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model.closes import TraceEvent

# Plain numbers: comparing with an enum costs a call, ten times for each connection.
_ESTABLISHED: Final = int(State.ESTABLISHED)
_SYN_SENT: Final = int(State.SYN_SENT)
_FIN_WAIT1: Final = int(State.FIN_WAIT1)
_CLOSE: Final = int(State.CLOSE)
_LAST_ACK: Final = int(State.LAST_ACK)
_LISTEN: Final = int(State.LISTEN)
_CLOSING: Final = int(State.CLOSING)
_UNCONNECTED: Final = (_CLOSE, _LISTEN)

# In Python 3.11 a member of an enum costs a call each time it is named.
_HERE, _PEER, _BOTH = ClosedBy.HERE, ClosedBy.PEER, ClosedBy.BOTH
_IN, _OUT = Opened.IN, Opened.OUT

_EXIT_NS: Final = 10_000_000_000
"""How long a dying thread may take to close its files before its number is another's."""
_MOST_EXITS: Final = 4096
_AFTER_CLOSE: Final = "TCP_TIMEWAIT_SOCKET"
"""The reason of a RST to data for a mini-socket: nobody is left to read it."""


class Track:
    """What events have told of one socket so far; moments in ns, None where there was none.

    Defaults are the class's: to set all of them for each of 20,000 sockets a second is dear.
    """

    opened: Opened | None = None
    born: int | None = None
    first: ClosedBy | None = None
    first_at: int | None = None
    fin_at: int | None = None
    closed_at: int | None = None
    closer: int | None = None
    dying: Why | None = None
    shutdown: bool = False
    unaccepted: bool = False
    reset_received: bool = False
    reset_sent: str | None = None
    before: int = 0
    ended_at: int = 0
    ended_in_task: bool = False
    told: bool = False

    def __init__(self, place: StateChange) -> None:
        self.place = place


class Finished(NamedTuple):
    """A socket of which all is told: the event of its end, and its track."""

    gone: SocketGone
    track: Track


class Fold:
    """Gathers the events of each socket, in the order of time, until the socket is gone."""

    def __init__(self) -> None:
        self._tracks: dict[int, Track] = {}
        self._exits: dict[int, tuple[int, Why]] = {}
        self._kills: dict[int, int] = {}
        self._listeners_ending: dict[int, StateChange] = {}
        self._refused: list[ResetSent] = []

    def refused(self) -> list[ResetSent]:
        """Return, once, the RSTs that answered data for connections that this end had closed."""
        found, self._refused = self._refused, []
        return found

    def feed(self, events: Iterable[TraceEvent]) -> list[Finished]:
        """Take in events, oldest first, and return the connections that are over with them."""
        finished: dict[int, Finished] = {}
        done: list[Finished] = []
        tracks = self._tracks
        for event in events:
            kind = type(event)
            if kind is StateChange:
                self._change(event)  # type: ignore[arg-type]
            elif kind is SocketGone:
                gone: SocketGone = event  # type: ignore[assignment]
                track = tracks.pop(gone.sk, None)
                if track is not None and track.before:
                    done.append(Finished(gone, track))
                    finished[gone.sk] = done[-1]
                elif track is None and self._listeners_ending:
                    self._forget_listener(gone)
            elif kind is ResetReceived:
                track = tracks.get(event.sk)  # type: ignore[union-attr]
                if track is not None:
                    track.reset_received = True
                else:  # the connection is older than the trace
                    tracks[event.sk] = _unknown(event.at)  # type: ignore[union-attr]
            elif kind is ResetSent:
                self._reset(event, finished)  # type: ignore[arg-type]
            elif kind is ThreadEnds:
                self._exit(event)  # type: ignore[arg-type]
            elif kind is Killed:
                self._kill(event)  # type: ignore[arg-type]
        return done

    def still_open(self, before: int) -> list[Track]:
        """Return, once, the connections that ended before a moment and whose sockets still exist.

        A descriptor holds them; they are in no table of the kernel any more.
        """
        late = [
            track
            for track in self._tracks.values()
            if track.before and track.ended_at < before and not track.told
        ]
        for track in late:
            track.told = True  # it stays, so that the end of its socket is not told once more
        return late

    def _change(self, event: StateChange) -> None:
        at, flags, _, sk, old, new, local_port, remote_port, _, _ = event
        in_task = not flags & IN_INTERRUPT
        if old in _UNCONNECTED:
            if old == _LISTEN and new == _CLOSE and in_task:
                if len(self._listeners_ending) >= _MOST_EXITS:
                    self._listeners_ending.clear()
                self._listeners_ending[event.tid] = event
            return
        if new == _ESTABLISHED:
            track = self._tracks[sk] = Track(event)
            track.opened = _OUT if old == _SYN_SENT else _IN
            track.born = at
            return
        found = self._tracks.get(sk)
        if found is None:
            track = self._tracks[sk] = Track(event)
        else:
            track, place = found, found.place
            if not place.old:
                track.place = event
            elif place.local_port != local_port or place.remote_port != remote_port:
                track = self._tracks[sk] = Track(event)
        if new == _CLOSE:
            self._ended(track, event, in_task)
        elif new == old:
            track.shutdown = True
        elif old == _ESTABLISHED:
            track.first_at = at
            if new == _FIN_WAIT1:
                track.first = _HERE
                self._closed_here(track, event, in_task)
            else:
                track.first = _PEER
                track.fin_at = at
        elif new == _LAST_ACK:
            self._closed_here(track, event, in_task)
        elif new == _CLOSING:
            track.first = _BOTH

    def _closed_here(self, track: Track, event: StateChange, in_task: bool) -> None:
        track.closed_at = event.at
        if in_task:
            track.closer = event.tid
            track.dying = self._dying(event.tid, event.at)

    def _ended(self, track: Track, event: StateChange, in_task: bool) -> None:
        track.before, track.ended_at, track.ended_in_task = event.old, event.at, in_task
        if track.first_at is None:
            track.first_at = event.at
        if event.old == _SYN_SENT:
            track.opened = _OUT
        if in_task and not track.reset_received and track.closed_at is None:
            self._closed_here(track, event, in_task)
            stopping = self._listeners_ending.get(event.tid)
            track.unaccepted = stopping is not None and stopping.local_port == event.local_port

    def _reset(self, event: ResetSent, finished: dict[int, Finished]) -> None:
        track = self._tracks.get(event.sk)
        if track is None and event.sk in finished:
            track = finished[event.sk].track  # the RST can leave after the socket
        if track is not None:
            track.reset_sent = event.reason
        elif event.reason == _AFTER_CLOSE:
            self._refused.append(event)

    def _exit(self, event: ThreadEnds) -> None:
        if len(self._exits) >= _MOST_EXITS:
            recent = event.at - _EXIT_NS
            self._exits = {t: e for t, e in self._exits.items() if e[0] > recent}
        why = Why.KILLED if self._kills.pop(event.tid, None) is not None else Why.EXIT
        self._exits[event.tid] = event.at, why

    def _kill(self, event: Killed) -> None:
        if len(self._kills) >= _MOST_EXITS:
            self._kills.clear()
        self._kills[event.tid] = event.at

    def _dying(self, tid: int, at: int) -> Why | None:
        exit_at, why = self._exits.get(tid, (None, None))
        return why if exit_at is not None and 0 <= at - exit_at < _EXIT_NS else None

    def _forget_listener(self, gone: SocketGone) -> None:
        for tid, event in list(self._listeners_ending.items()):
            if event.sk == gone.sk:
                del self._listeners_ending[tid]


def _unknown(at: int) -> Track:
    nothing = StateChange(at, 0, 0, 0, 0, 0, 0, 0, 0, b"")
    track = Track(nothing)
    track.reset_received = True
    return track
