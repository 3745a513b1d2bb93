"""What the live screen shows: a pure fold from looks, and the ends between them, to frames.

A row keeps its place among those as bad, and stays when what it is about is gone.  Numbers of the
last minute come from what earlier looks saw, so they cover less at first.  No clock and no I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from twdiag.analysis.budgets import TABLE, budgets
from twdiag.analysis.closers import Ends, added_up, closers, processes
from twdiag.analysis.leaks import leaks
from twdiag.analysis.rates import MADE, REFUSED
from twdiag.analysis.wanted import EVERYTHING
from twdiag.model.findings import (
    DestinationSubject,
    Finding,
    ListenerSubject,
    ProcessSubject,
)
from twdiag.model.snapshot import Pace
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from twdiag.analysis.budgets import Budget
    from twdiag.analysis.closers import Closer, Process
    from twdiag.analysis.leaks import Leak
    from twdiag.analysis.view import View
    from twdiag.analysis.wanted import Key, Wanted
    from twdiag.model.findings import Report
    from twdiag.model.snapshot import Snapshot

MINUTE: Final = 60.0
NOW: Final = 3.0
"""The window of a rate "now": it ends within so many seconds of a burst's end."""

_APART: Final = 0.9
"""Seconds between two samples that are kept: a minute of them at most is remembered."""
_MOST_GONE: Final = 50

R = TypeVar("R")


# What goes in.


class Following(NamedTuple):
    """How the ends of connections are followed.

    `source` is that of trace, "" where there is none; `sentence` says what is missing and what
    would give it; `share` is the part of the time that they are followed, `lost` the number of
    events that were lost, None where the kernel does not count them.
    """

    source: str = ""
    sentence: str = ""
    share: float = 1.0
    lost: int | None = None


class Cost(NamedTuple):
    """What the screen costs: the seconds from frame to frame, and its share of a core.

    `slowed` tells that frames are further apart than asked for; the first frame has no share.
    """

    interval: float
    share: float | None = None
    slowed: bool = False


class Sight(NamedTuple):
    """What came in since the frame before; `at` is a monotonic clock's time.

    `pending` are the inodes of sockets whose owners have not been looked for yet.
    """

    at: float
    report: Report
    view: View
    ends: Ends = Ends()
    following: Following = Following()
    cost: Cost = Cost(1.0)
    pending: frozenset[int] = frozenset()


# What comes out.


class PerSecond(NamedTuple):
    """A rate now and over the last minute, None where it is not known yet."""

    now: float | None
    minute: float | None


@dataclass(frozen=True)
class Entry(Generic[R]):
    """A row with its place; `gone_at` is when it was first missing, None while it is there."""

    key: Key
    row: R
    gone_at: float | None = None


@dataclass(frozen=True)
class Frame:
    """Everything that one screen can show.

    `rates` are those of RATES.  `limit` is what the kernel allows of TIME_WAITs, and `settles_at`
    where they settle; `closing` are the closes that leave one.  None is not known.
    Growth is of so many `seconds`.
    """

    at: float
    report: Report
    time_wait: int
    limit: int | None
    settles_at: int | None
    closing: PerSecond
    close_wait_grown: int | None
    seconds: float
    rates: Mapping[str, PerSecond]
    findings: tuple[Entry[Finding], ...]
    budgets: tuple[Entry[Budget], ...]
    leaks: tuple[Entry[Leak], ...]
    closers: tuple[Entry[Closer], ...]
    processes: tuple[Entry[Process], ...]
    following: Following
    cost: Cost

    @property
    def parts(self) -> Mapping[str, tuple[Entry[Any], ...]]:
        """The rows of each part by its name, in the order of the screen."""
        return {name: getattr(self, name) for name in PARTS}


PARTS: Final = ("findings", "budgets", "leaks", "closers", "processes")

RATES: Final = {
    "closed": (MADE, REFUSED),
    "opened_out": ("Tcp.ActiveOpens",),
    "opened_in": ("Tcp.PassiveOpens",),
    "failed": ("Tcp.AttemptFails",),
    "resets_sent": ("Tcp.OutRsts",),
    "aborted": ("TcpExt.TCPAbortOnData", "TcpExt.TCPAbortOnClose", "TcpExt.TCPAbortOnTimeout"),
    "dropped": ("TcpExt.ListenOverflows",),
}
"""The rates of counters: connections closed first here, opened, failed to open, RSTs sent,
connections aborted here, SYNs dropped by full accept queues."""


# What is remembered.


class _Sample(NamedTuple):
    """What one look saw of things that grow: counters, and numbers by the keys of rows."""

    at: float
    counters: Mapping[str, int]
    numbers: Mapping[Key, int]


@dataclass(frozen=True)
class Memory:
    """What earlier looks leave for later frames: about a minute, and the rows."""

    samples: tuple[_Sample, ...] = ()
    ends: tuple[tuple[float, Ends], ...] = ()
    rows: Mapping[str, tuple[Entry[Any], ...]] = field(default_factory=dict)

    def without_past(self) -> Memory:
        """Return a memory that begins anew: no row, and growth from the last look on."""
        return Memory(samples=self.samples[-1:])


_CLOSE_WAITS: Final[Key] = ("close-wait",)


def pace(memory: Memory, snapshot: Snapshot, at: float) -> Pace | None:
    """Return how the counters have grown in the last few seconds, None in the first frame."""
    before = _before(memory.samples, at, NOW)
    if before is None or before.at >= at or not snapshot.counters:
        return None
    after = snapshot.counters
    grown = {name: after[name] - value for name, value in before.counters.items() if name in after}
    return Pace(at - before.at, grown)


def fold(memory: Memory, sight: Sight, wanted: Wanted = EVERYTHING) -> tuple[Memory, Frame]:
    """Return what to remember, and the frame that shows what came in."""
    view, at = sight.view, sight.at
    ends = (*(e for e in memory.ends if e[0] > at - MINUTE), (at, sight.ends))
    now = _numbers_of(sight, wanted)
    sample = _Sample(at, view.snapshot.counters, now.numbers)
    growth = _Growth(memory.samples, sample)
    found = _rows(sight, added_up(e for _, e in ends), memory, wanted)
    found["budgets"] = {key: growth.budget(key, budget) for key, budget in now.budgets.items()}
    found["leaks"] = {key: growth.leak(key, leak) for key, leak in now.leaks.items()}
    rows = {name: _kept(memory.rows.get(name, ()), found[name], at) for name in PARTS}
    rows["findings"] = tuple(sorted(rows["findings"], key=lambda entry: -entry.row.severity))
    rows["budgets"] = tuple(sorted(rows["budgets"], key=_is_calm))
    frame = Frame(
        at=at,
        report=sight.report,
        time_wait=view.count(State.TIME_WAIT),
        limit=view.sysctl(TABLE),
        settles_at=_settles(view),
        closing=_closing(view),
        close_wait_grown=growth.count(_CLOSE_WAITS)[0],
        seconds=growth.count(_CLOSE_WAITS)[1],
        rates={name: growth.rate(counters) for name, counters in RATES.items()},
        following=sight.following,
        cost=sight.cost,
        **rows,
    )
    return Memory(_remembered(memory.samples, sample), ends, rows), frame


class _Numbers(NamedTuple):
    """The rows that grow, and the number of each by its key."""

    budgets: Mapping[Key, Budget]
    leaks: Mapping[Key, Leak]
    numbers: Mapping[Key, int]


def _numbers_of(sight: Sight, wanted: Wanted) -> _Numbers:
    view = sight.view
    limited, leaking = budgets(view, wanted), leaks(view, wanted, sight.pending)
    numbers = {key: budget.used for key, budget in limited.items()}
    numbers.update((key, leak.sockets) for key, leak in leaking.items())
    numbers[_CLOSE_WAITS] = view.count(State.CLOSE_WAIT)
    return _Numbers(limited, leaking, numbers)


def _rows(sight: Sight, ends: Ends, memory: Memory, wanted: Wanted) -> dict[str, dict[Key, Any]]:
    """Return the rows that do not grow but come and go."""
    known = {entry.key for entry in memory.rows.get("closers", ())}
    followed = ends if sight.following.source else None
    return {
        "findings": dict(_findings(sight.report.findings)),
        "closers": dict(closers(sight.view, followed, known, wanted)),
        "processes": dict(processes(sight.view, ends, wanted)),
    }


def _closing(view: View) -> PerSecond:
    """Return the closes that leave a TIME_WAIT, by its timer; not known where none is shown."""
    if {"timers", "sockets"} & view.missing:
        return PerSecond(None, None)
    return PerSecond(view.closing.now, view.closes.mean)


def _settles(view: View) -> int | None:
    """Return where all TIME_WAITs settle at the rate of now: each lives a minute."""
    now, limit = _closing(view).now, view.sysctl(TABLE)
    if now is None:
        return None
    settled = round(now * TIME_WAIT_SECONDS)
    return settled if limit is None else min(settled, limit)


# Growth.


def _remembered(samples: tuple[_Sample, ...], sample: _Sample) -> tuple[_Sample, ...]:
    """Return the samples of a minute, and the last one before it."""
    if len(samples) > 1 and sample.at - samples[-2].at < _APART:
        samples = samples[:-1]
    samples = (*samples, sample)
    old = sum(1 for s in samples if s.at <= sample.at - MINUTE)
    return samples[max(0, old - 1) :]


def _before(samples: Sequence[_Sample], at: float, seconds: float) -> _Sample | None:
    """Return the newest sample that is so old, else the oldest, None without one."""
    for sample in reversed(samples):
        if sample.at <= at - seconds:
            return sample
    return samples[0] if samples else None


class _Growth:
    """Compares a sample with those of the minute before it."""

    def __init__(self, samples: Sequence[_Sample], now: _Sample) -> None:
        self._now = now
        self._recent = _before(samples, now.at, NOW)
        self._minute = _before(samples, now.at, MINUTE)

    def rate(self, counters: Iterable[str]) -> PerSecond:
        """Return how fast counters grow together."""
        return PerSecond(self._rate(counters, self._recent), self._rate(counters, self._minute))

    def _rate(self, counters: Iterable[str], before: _Sample | None) -> float | None:
        if before is None or before.at >= self._now.at:
            return None
        risen = [
            self._now.counters[name] - before.counters[name]
            for name in counters
            if name in self._now.counters and name in before.counters
        ]
        if not risen or min(risen) < 0:  # counted anew since
            return None
        return sum(risen) / (self._now.at - before.at)

    def count(self, key: Key) -> tuple[int | None, float]:
        """Return by how much a number of sockets has grown, and in how many seconds.

        Sockets that no sample has were none; the first frame knows no growth.
        """
        before = self._minute
        if before is None:
            return None, 0.0
        return self._now.numbers[key] - before.numbers.get(key, 0), self._now.at - before.at

    def budget(self, key: Key, budget: Budget) -> Budget:
        """Return a budget with its growth, and with when it is full if nothing else tells."""
        before = self._minute
        if before is None or key not in before.numbers or before.at >= self._now.at:
            return budget
        growth = (budget.used - before.numbers[key]) / (self._now.at - before.at)
        full_in = budget.full_in
        # The others drain: a TIME_WAIT ends after a minute, whatever their growth.
        if full_in is None and growth > 0 and budget.kind in ("descriptors", "accept-queue"):
            full_in = max(0, budget.size - budget.used) / growth
        return budget._replace(growth=growth, full_in=full_in)

    def leak(self, key: Key, leak: Leak) -> Leak:
        """Return a leak with its growth."""
        grown, seconds = self.count(key)
        return leak._replace(grown=grown, seconds=seconds)


# Rows.


def _kept(before: Iterable[Entry[Any]], found: dict[Key, Any], at: float) -> tuple[Entry[Any], ...]:
    """Return the rows in the places they have, new ones behind them, too many gone ones dropped."""
    left = dict(found)
    kept = [
        Entry(entry.key, left.pop(entry.key))
        if entry.key in left
        else replace(entry, gone_at=at if entry.gone_at is None else entry.gone_at)
        for entry in before
    ]
    kept += [Entry(key, row) for key, row in left.items()]
    gone = [entry.gone_at for entry in kept if entry.gone_at is not None]
    if len(gone) > _MOST_GONE:
        latest = sorted(gone)[-_MOST_GONE]
        kept = [e for e in kept if e.gone_at is None or e.gone_at >= latest]
    return tuple(kept)


def _is_calm(entry: Entry[Budget]) -> bool:
    """Return whether a budget can come behind those that are nearly used up."""
    return entry.gone_at is not None or not entry.row.urgent


def _findings(findings: Iterable[Finding]) -> Iterator[tuple[Key, Finding]]:
    """Yield each finding with what makes it the same one in the next frame."""
    times: Counter[Key] = Counter()
    for finding in findings:
        key = (finding.rule, finding.netns, *_subject(finding))
        times[key] += 1
        yield (*key, times[key]), finding


def _subject(finding: Finding) -> Key:
    """Return what a finding is about, without what changes while it lasts."""
    subject = finding.subject
    if isinstance(subject, ListenerSubject):
        return subject.kind, subject.address, subject.port
    if isinstance(subject, ProcessSubject):
        # Not the number: that of the worker that holds most changes.
        return subject.kind, subject.name, subject.user
    if isinstance(subject, DestinationSubject):
        return subject.kind, subject.source, subject.address, subject.port
    return (subject.kind, *subject)


# What concerns what.


def related(frame: Frame, part: str, row: Any) -> Iterator[Finding]:
    """Yield the findings that concern a row of a part."""
    if part == "findings":
        yield row
        return
    for finding in frame.report.findings:
        if _concerns(finding, part, row):
            yield finding


def _concerns(finding: Finding, part: str, row: Any) -> bool:
    subject = finding.subject
    if part in ("leaks", "processes"):
        about_waiting = finding.rule.startswith("close-wait")
        return not set(row.pids).isdisjoint(finding.pids) and (part == "processes" or about_waiting)
    if part == "budgets" and row.kind not in ("ports", "accept-queue"):
        return finding.rule in _RULES_OF_BUDGETS[row.kind]
    if not isinstance(subject, (ListenerSubject, DestinationSubject)):
        return False
    return endpoint(subject.address, subject.port) in row.name.replace(",", " ").split()


_RULES_OF_BUDGETS: Final = {
    "time-wait": ("time-wait-table-filling", "time-wait-rising"),
    "descriptors": ("fd-limit-near",),
    "orphans": ("fin-unanswered",),
}
