"""How numbers have grown within the last minute of looks: counters, and sockets by rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.engine.frames import PerSecond

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twdiag.analysis.budgets import Budget
    from twdiag.analysis.leaks import Leak
    from twdiag.analysis.wanted import RowKey

MINUTE: Final = 60.0
NOW: Final = 3.0
"""The window of a rate "now": it ends within so many seconds of a burst's end."""
_APART: Final = 0.9
"""Seconds between two samples that are kept: a minute of them at most is remembered."""


class Sample(NamedTuple):
    """What one look saw of things that grow: counters, and numbers by the keys of rows."""

    at: float
    counters: Mapping[str, int]
    numbers: Mapping[RowKey, int]


def remembered(samples: tuple[Sample, ...], sample: Sample) -> tuple[Sample, ...]:
    """Return the samples of a minute, and the last one before it."""
    if len(samples) > 1 and sample.at - samples[-2].at < _APART:
        samples = samples[:-1]
    samples = (*samples, sample)
    old = sum(1 for s in samples if s.at <= sample.at - MINUTE)
    return samples[max(0, old - 1) :]


def sample_before(samples: Sequence[Sample], at: float, seconds: float) -> Sample | None:
    """Return the newest sample that is so old, else the oldest, None without one."""
    for sample in reversed(samples):
        if sample.at <= at - seconds:
            return sample
    return samples[0] if samples else None


class Growth:
    """Compares a sample with those of the minute before it."""

    def __init__(self, samples: Sequence[Sample], now: Sample) -> None:
        self._now = now
        self._recent = sample_before(samples, now.at, NOW)
        self._minute = sample_before(samples, now.at, MINUTE)

    def rate(self, counters: Iterable[str]) -> PerSecond:
        """Return how fast counters grow together."""
        return PerSecond(self._rate(counters, self._recent), self._rate(counters, self._minute))

    def _rate(self, counters: Iterable[str], before: Sample | None) -> float | None:
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

    def count(self, key: RowKey) -> tuple[int | None, float]:
        """Return by how much a number of sockets has grown, and in how many seconds.

        Sockets that no sample has were none; the first frame knows no growth.
        """
        before = self._minute
        if before is None:
            return None, 0.0
        return self._now.numbers[key] - before.numbers.get(key, 0), self._now.at - before.at

    def budget(self, key: RowKey, budget: Budget) -> Budget:
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

    def leak(self, key: RowKey, leak: Leak) -> Leak:
        """Return a leak with its growth."""
        grown, seconds = self.count(key)
        return leak._replace(grown=grown, seconds=seconds)
