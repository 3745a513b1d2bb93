"""The live screen as a pure fold: from looks, and the ends between them, to frames.

A row keeps its place among those as bad, and stays when what it is about is gone.  Numbers of the
last minute come from what earlier looks saw, so they cover less at first.  No clock and no I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.analysis.budgets import TABLE, budgets
from twdiag.analysis.closers import Ended, added_up, closers, processes
from twdiag.analysis.leaks import leaks
from twdiag.analysis.wanted import EVERYTHING
from twdiag.engine.frames import PARTS, RATES, Entry, Frame, PerSecond, Sight
from twdiag.engine.growth import MINUTE, NOW, Growth, Sample, remembered, sample_before
from twdiag.model.findings import DestinationSubject, Finding, ListenerSubject, ProcessSubject
from twdiag.model.snapshot import Pace
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twdiag.analysis.budgets import Budget
    from twdiag.analysis.leaks import Leak
    from twdiag.analysis.view import View
    from twdiag.analysis.wanted import RowKey, Wanted
    from twdiag.model.snapshot import Snapshot

_MOST_GONE: Final = 50
_CLOSE_WAITS: Final[RowKey] = ("close-wait",)


@dataclass(frozen=True)
class ScreenMemory:
    """What earlier looks leave for later frames: about a minute, and the rows."""

    samples: tuple[Sample, ...] = ()
    ends: tuple[tuple[float, Ended], ...] = ()
    rows: Mapping[str, tuple[Entry[Any], ...]] = field(default_factory=dict)

    def without_past(self) -> ScreenMemory:
        """Return a memory that begins anew: no row, and growth from the last look on."""
        return ScreenMemory(samples=self.samples[-1:])


def pace(memory: ScreenMemory, snapshot: Snapshot, at: float) -> Pace | None:
    """Return how the counters have grown in the last few seconds, None in the first frame."""
    before = sample_before(memory.samples, at, NOW)
    if before is None or before.at >= at or not snapshot.counters:
        return None
    after = snapshot.counters
    grown = {name: after[name] - value for name, value in before.counters.items() if name in after}
    return Pace(at - before.at, grown)


def fold(
    memory: ScreenMemory, sight: Sight, wanted: Wanted = EVERYTHING
) -> tuple[ScreenMemory, Frame]:
    """Return what to remember, and the frame that shows what came in."""
    view, at = sight.view, sight.at
    ends = (*(e for e in memory.ends if e[0] > at - MINUTE), (at, sight.ends))
    now = _numbers_of(sight, wanted)
    sample = Sample(at, view.snapshot.counters, now.numbers)
    growth = Growth(memory.samples, sample)
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
    return ScreenMemory(remembered(memory.samples, sample), ends, rows), frame


class _Numbers(NamedTuple):
    """The rows that grow, and the number of each by its key."""

    budgets: Mapping[RowKey, Budget]
    leaks: Mapping[RowKey, Leak]
    numbers: Mapping[RowKey, int]


def _numbers_of(sight: Sight, wanted: Wanted) -> _Numbers:
    view = sight.view
    limited, leaking = budgets(view, wanted), leaks(view, wanted, sight.pending)
    numbers = {key: budget.used for key, budget in limited.items()}
    numbers.update((key, leak.sockets) for key, leak in leaking.items())
    numbers[_CLOSE_WAITS] = view.count(State.CLOSE_WAIT)
    return _Numbers(limited, leaking, numbers)


def _rows(
    sight: Sight, ends: Ended, memory: ScreenMemory, wanted: Wanted
) -> dict[str, dict[RowKey, Any]]:
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


def _kept(
    before: Iterable[Entry[Any]], found: dict[RowKey, Any], at: float
) -> tuple[Entry[Any], ...]:
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


def _findings(findings: Iterable[Finding]) -> Iterator[tuple[RowKey, Finding]]:
    """Yield each finding with what makes it the same one in the next frame."""
    times: Counter[RowKey] = Counter()
    for finding in findings:
        key = (finding.rule, finding.netns, *_subject(finding))
        times[key] += 1
        yield (*key, times[key]), finding


def _subject(finding: Finding) -> RowKey:
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
