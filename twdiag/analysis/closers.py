"""Who closes: listeners, destinations and processes, with how fast and who closes first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from twdiag.analysis.rates import Rate
from twdiag.analysis.wanted import RowKey, words_for
from twdiag.census.listeners import find_listener
from twdiag.model.closes import ClosedBy, How, Opened
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from twdiag.analysis.view import View
    from twdiag.analysis.wanted import Wanted
    from twdiag.model.census import Listener, Tally
    from twdiag.model.closes import Close

_K = TypeVar("_K")

_MINUTE: Final = 60.0
_MOST: Final = 50
_MOST_ENDS: Final = 500
_MOST_PIDS: Final = 9
_TOO_SHORT: Final = 0.5
"""Seconds in which nothing may end by chance: that is no rate of 0."""


class Ended(NamedTuple):
    """The connections that ended while they were followed, in so many seconds.

    `counts` are by (where, what): where is ("in", local address, port) or ("out", remote address,
    port), what "here", "peer" or "both" for who closed first, "unknown", and besides "reset".
    `closers` counts by (process, where, what), what "first", "after" or "reset"; `pids` has some of
    the numbers of each process.
    """

    seconds: float = 0.0
    counts: Mapping[tuple[RowKey, str], int] = {}
    closers: Mapping[tuple[str, RowKey, str], int] = {}
    pids: Mapping[str, frozenset[int]] = {}


class Firsts(NamedTuple):
    """Connections of a group a second by who closed first, and those that ended by a RST."""

    here: float
    peer: float
    unknown: float
    resets: float


class ClosingEnd(NamedTuple):
    """A listener or a destination whose connections end; `kind` is "server", "client" or "gone".

    `now` and `minute` are the closes that left a TIME_WAIT here, per second; `settles_at` is where
    their number settles at the rate of now; None where no timer is shown.  `firsts` is None where
    the ends are not followed.  `processes` are the words that mean those which listen.
    """

    kind: str
    name: str
    port: int
    time_wait: int
    now: Rate | None
    minute: float | None
    settles_at: int | None
    firsts: Firsts | None
    processes: tuple[str, ...] = ()


class ClosingProcess(NamedTuple):
    """A process that closes, and at which end; rates per second.

    `first` are the closes with which it was the first, `after` those that followed the peer's.
    """

    name: str
    pids: tuple[int, ...]
    end: str
    port: int
    first: float
    after: float
    resets: float


class EndsCounter:
    """Counts connections as they end, group by group; beyond so many groups only those known."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[RowKey, str]] = Counter()
        self._closers: Counter[tuple[str, RowKey, str]] = Counter()
        self._pids: dict[str, set[int]] = {}

    def add(self, close: Close) -> None:
        """Count one connection."""
        where = _where(close)
        first = "unknown" if close.first is None else close.first.value
        reset = close.how in (How.RST, How.FIN_RST)
        for what in (first, "reset") if reset else (first,):
            self._count(self._counts, (where, what))
        closer = close.closer
        if closer is None or closer.name is None:
            return
        self._count(self._closers, (closer.name, where, _part(close)))
        pids = self._pids.setdefault(closer.name, set())
        if closer.pid is not None and len(pids) < _MOST_PIDS:
            pids.add(closer.pid)

    @staticmethod
    def _count(counter: Counter[_K], key: _K) -> None:
        if key in counter or len(counter) < _MOST_ENDS:
            counter[key] += 1

    def take(self, seconds: float) -> Ended:
        """Return what was counted in so many seconds, and begin anew."""
        pids = {name: frozenset(found) for name, found in self._pids.items()}
        ends = Ended(seconds, self._counts, self._closers, pids)
        self._counts, self._closers, self._pids = Counter(), Counter(), {}
        return ends


def _part(close: Close) -> str:
    """Return what the process that closed our end did."""
    if close.how in (How.RST, How.FIN_RST) and close.first is not ClosedBy.PEER:
        return "reset"
    return "after" if close.first is ClosedBy.PEER else "first"


def _where(close: Close) -> RowKey:
    """Return the end that a connection is told under: the service's."""
    if close.opened is Opened.IN:
        return "in", close.local, close.local_port
    if close.opened is Opened.OUT:
        return "out", close.remote, close.remote_port
    return ("?",)


def added_up(ends: Iterable[Ended]) -> Ended:
    """Return ends together."""
    seconds, counts, closers = (
        0.0,
        Counter[tuple[RowKey, str]](),
        Counter[tuple[str, RowKey, str]](),
    )
    pids: dict[str, frozenset[int]] = {}
    for one in ends:
        seconds += one.seconds
        counts.update(one.counts)
        closers.update(one.closers)
        for name, found in one.pids.items():
            pids[name] = pids.get(name, frozenset()) | found
    return Ended(seconds, counts, closers, pids)


def closers(
    view: View, ends: Ended | None, known: Collection[RowKey], wanted: Wanted
) -> Iterator[tuple[RowKey, ClosingEnd]]:
    """Yield the listeners and destinations whose connections end, the busiest first.

    Beside the busiest are those that are `known`: they are there, if not among the busiest.
    """
    firsts = _firsts(view, ends)
    groups = _tallies(view)
    for key in firsts or ():
        groups.setdefault(key, [])
    weights = {
        key: _weight(tallies, (firsts or {}).get(key))
        for key, tallies in groups.items()
        if wanted.port(_port(key))
    }
    left = _MOST
    # There may be thousands of them: what costs is worked out for the busiest alone.
    for key in sorted(weights, key=lambda key: -weights[key]):
        if key not in known and not (left > 0 and weights[key]):
            continue
        row = _closer(view, key, groups[key], firsts)
        if _is_asked(key, row, ends, wanted):
            left -= 1
            yield key, row


def _weight(tallies: Sequence[Tally], firsts: Firsts | None) -> float:
    """Return how many connections of a group end in a minute, or have ended in it."""
    ended = sum(firsts[:3]) if firsts else 0.0
    return sum(tally.states.get(State.TIME_WAIT, 0) for tally in tallies) + _MINUTE * ended


def _port(key: RowKey) -> int:
    port = key[-1]
    assert isinstance(port, int)
    return port


def _tallies(view: View) -> dict[RowKey, list[Tally]]:
    """Return the sockets of each listener, destination and port that a listener left."""
    found: dict[RowKey, list[Tally]] = {}
    for server in view.servers:
        key = ("server", server.listener.address, server.listener.port)
        found.setdefault(key, []).append(server.tally)
    for to in view.census.destinations:
        found.setdefault(("client", to.address, to.port), []).append(to.tally)
    for end in view.census.left_overs:
        found.setdefault(("gone", end.port), []).append(end.tally)
    return found


def _closer(
    view: View, key: RowKey, tallies: Sequence[Tally], firsts: Mapping[RowKey, Firsts] | None
) -> ClosingEnd:
    kind, port = str(key[0]), _port(key)
    listener = view.census.listeners.get((str(key[1]), port)) if kind == "server" else None
    owners = view.owners_of(s.inode for s in listener.sockets) if listener else ()
    timed = "timers" not in view.missing
    now = _together([view.rate_of(tally.time_wait) for tally in tallies]) if timed else None
    return ClosingEnd(
        kind,
        f"port {port}" if kind == "gone" else endpoint(str(key[1]), port),
        port,
        sum(tally.states.get(State.TIME_WAIT, 0) for tally in tallies),
        now,
        sum(tally.time_wait.mean for tally in tallies) if timed else None,
        None if now is None else round(now.value * TIME_WAIT_SECONDS),
        None if firsts is None else firsts.get(key, Firsts(0.0, 0.0, 0.0, 0.0)),
        words_for(owners),
    )


def _together(rates: Sequence[Rate]) -> Rate:
    return Rate(sum(rate.value for rate in rates), any(rate.at_least for rate in rates))


def _is_asked(key: RowKey, row: ClosingEnd, ends: Ended | None, wanted: Wanted) -> bool:
    if not wanted.processes or wanted.process(*row.processes):
        return True
    closers = () if ends is None else ends.closers
    return any(
        where[:1] == ("out",) and ("client", *where[1:]) == key and name in wanted.processes
        for name, where, _ in closers
    )


def _firsts(view: View, ends: Ended | None) -> dict[RowKey, Firsts] | None:
    """Return who closed first by listener and destination, None where nothing was followed."""
    if ends is None or not ends.seconds or (not ends.counts and ends.seconds < _TOO_SHORT):
        return None
    sums: dict[RowKey, Counter[str]] = {}
    for (where, what), number in ends.counts.items():
        key = _group(view, where)
        if key is not None:
            sums.setdefault(key, Counter())[what] += number
    return {
        key: Firsts(
            (found["here"] + found["both"]) / ends.seconds,
            found["peer"] / ends.seconds,
            found["unknown"] / ends.seconds,
            found["reset"] / ends.seconds,
        )
        for key, found in sums.items()
    }


def _group(view: View, where: RowKey) -> RowKey | None:
    """Return the row that the end of a connection belongs to, None for one of unknown direction."""
    if len(where) < 3:
        return None
    side, address, port = where
    assert isinstance(port, int)
    if side == "out":
        return ("client", address, port) if port else None
    listener: Listener | None = find_listener(view.census.listeners, str(address), port)
    return ("gone", port) if listener is None else ("server", listener.address, listener.port)


def processes(view: View, ends: Ended, wanted: Wanted) -> Iterable[tuple[RowKey, ClosingProcess]]:
    """Yield the processes that close at each end, those first that close most."""
    sums: dict[RowKey, Counter[str]] = {}
    for (name, where, what), number in ends.closers.items():
        group = _group(view, where)
        if group is not None:
            sums.setdefault((name, *group), Counter())[what] += number
    found = ((key, _process(key, counts, ends)) for key, counts in sums.items())
    asked = [
        (key, row)
        for key, row in found
        if wanted.port(row.port) and wanted.process(row.name, *map(str, row.pids))
    ]
    asked.sort(key=lambda item: -(item[1].first + item[1].after + item[1].resets))
    return asked[:_MOST]


def _process(key: RowKey, counts: Counter[str], ends: Ended) -> ClosingProcess:
    name, kind, port = str(key[0]), key[1], _port(key)
    end = f"to {endpoint(str(key[2]), port)}" if kind == "client" else f"on :{port}"
    seconds = ends.seconds or 1.0
    return ClosingProcess(
        name,
        tuple(sorted(ends.pids.get(name, ()))),
        end,
        port,
        counts["first"] / seconds,
        counts["after"] / seconds,
        counts["reset"] / seconds,
    )
