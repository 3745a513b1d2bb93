"""Follow the ends of connections within a share of a core: all of them, or samples."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.closers import EndsCounter
from twdiag.engine import follow
from twdiag.engine.frames import Following
from twdiag.engine.growth import MINUTE
from twdiag.engine.idle import IdleFollower
from twdiag.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.analysis.closers import Ended
    from twdiag.engine.following import Followed
    from twdiag.model.closes import Close
    from twdiag.model.idling import Watched

SHARE: Final = 0.03
"""The share of a core that following the ends may take."""

SAVED: Final = 0.15
"""Seconds of CPU that can be saved for later: what costs much now and then slows nothing down."""

_IDLE_SHARE: Final = 0.005
"""The share of a core that looks at idle connections may take."""

_IDLE_SECONDS: Final = 600.0
"""What was seen of idle connections longer ago may be mended by now."""

_ENOUGH: Final = 0.1
_SAMPLE: Final = 0.06
"""Seconds of CPU that a sample may take: with opening and closing the source less than _ENOUGH."""

_EACH: Final = 60e-6
"""Seconds of CPU that a connection takes with both of its ends here, measured."""

_SHORTEST, _LONGEST = 0.01, 0.25
"""Seconds of a sample: the screen stands still meanwhile."""


class Account:
    """Seconds of CPU that may be spent: earned as a share of the time, and saved up to `most`."""

    def __init__(self, share: float, most: float, now: float) -> None:
        self.share = share
        self._most = most
        self._balance = most
        self._at = now

    def balance(self, now: float) -> float:
        """Return what may be spent now; below 0, more was spent than earned."""
        earned = max(0.0, now - self._at) * self.share
        self._balance = min(self._most, self._balance + earned)
        self._at = max(self._at, now)
        return self._balance

    def spend(self, seconds: float) -> None:
        """Take what was spent."""
        self._balance -= seconds

    def wait(self, now: float) -> float:
        """Return in how many seconds all that was spent is earned."""
        return max(0.0, -self.balance(now)) / self.share


class _Stretch(NamedTuple):
    """Some time: how many seconds of it ends were followed, and what that took of a core."""

    at: float
    passed: float
    followed: float
    spent: float


class Follower:
    """Follows the ends of connections: all the time, or where that costs too much by samples.

    A sample is short, and as long as what it is expected to cost allows.  `spent` is the CPU time
    that all of it took.
    """

    def __init__(self, ports: Iterable[int], source: str, now: float) -> None:
        self._trace = follow.TraceRequest(frozenset(ports), source=source, small=True)
        self._account = Account(SHARE, SAVED, now)
        self._counter = EndsCounter()
        self._idle = self._new_idle()
        self._stack = contextlib.ExitStack()
        self._followed: Followed | None = None
        self._source = self._sentence = ""
        self._refused = source == "none"
        if self._refused:
            self._sentence = "--source none"
        self._sampled = 0.0
        self._since = self._taken = now
        self._phase = (now, 0.0)
        self.spent = self._seconds = self._spent = 0.0
        self._lost: int | None = None
        self._told_lost = 0
        self._stretches: deque[_Stretch] = deque()

    def _new_idle(self) -> IdleFollower:
        # Where it cannot look, the requests that met a close are still seen.
        return IdleFollower(self._trace.ports, lambda sentence: None, _IDLE_SHARE)

    def forget_idle(self) -> None:
        """Forget how connections idled."""
        self._idle = self._new_idle()

    def watched(self) -> Watched | None:
        """Return how connections idled and ended lately, None where not all ends are followed."""
        if self._followed is None or self._sampled:
            return None
        return self._idle.watched(_IDLE_SECONDS, time.time() - _IDLE_SECONDS)

    @property
    def costs(self) -> float:
        """The share of a core that following took lately, as far as it is expected to."""
        passed = sum(one.passed for one in self._stretches)
        spent = sum(one.spent for one in self._stretches)
        return min(SHARE, spent / passed) if passed else 0.0

    def begin(self) -> None:
        """Open the best source, where there is one."""
        if self._refused or self._followed is not None:
            return
        self._sentence = ""
        try:
            self._followed = self._stack.enter_context(follow.follow(self._trace, self._say))
        except SourceError as error:
            if self._trace.source != "auto":
                raise
            self._refuse(error)
            return
        self._source = self._followed.source
        self._since = time.monotonic()
        self._phase = (self._since, time.process_time())

    def _say(self, sentence: str) -> None:
        self._sentence = f"{self._sentence}; {sentence}" if self._sentence else sentence

    def _refuse(self, error: SourceError) -> None:
        step = f" ({error.next_step})" if error.next_step else ""
        self._refused, self._source = True, ""
        self._sentence = f"{error.what}{step}"

    def waits_for(self) -> list[int]:
        """Return the descriptors that can be read when a connection has ended."""
        return [] if self._followed is None else self._followed.waits_for()

    def step(self) -> None:
        """Read what has ended, or take a sample, or rest where the CPU time is used up."""
        spent = time.process_time()
        try:
            if self._followed is not None:
                self._read(self._followed)
            elif self._account.balance(time.monotonic()) >= _ENOUGH:
                self.begin()
                if self._sampled and self._followed is not None:
                    self._sample(self._followed)
        except SourceError as error:
            self.end()
            self._refuse(error)
        self._spend(time.process_time() - spent)

    def _spend(self, seconds: float) -> None:
        self._account.spend(seconds)
        self._spent += seconds
        self.spent += seconds

    def _read(self, followed: Followed) -> None:
        """Read on; where that costs more than is earned, go over to samples."""
        closes = followed.step()
        self._count(closes)
        self._idle.take_in(closes, followed)
        self._idle.look()
        now = time.monotonic()
        if self._account.balance(now) > 0:
            return
        began, before = self._phase
        self._plan((time.process_time() - before) / max(now - began, _SHORTEST))
        self._drop()
        self._forget()

    def expect(self, closes: float) -> None:
        """Begin with samples where so many closes a second would cost too much."""
        if self._followed is not None and closes * _EACH > SHARE:
            self._plan(closes * _EACH)
            self._drop()
            self._forget()

    def _drop(self) -> None:
        """Let go of the source, and count nothing of what was not counted yet: some is missing."""
        lost, seconds = self._lost, self._seconds
        self.end()
        self._lost, self._seconds = lost, seconds

    def _sample(self, followed: Followed) -> None:
        """Count what ends in a short time, and plan the next sample: a shorter one if this lost."""
        spent = time.process_time()
        closes, seconds = followed.sample(self._sampled)
        losses = followed.losses()
        if losses.trace_events or losses.announcements:
            self._sampled = max(_SHORTEST, self._sampled / 2)
            self._drop()
            return
        self._count(closes)
        self._plan((time.process_time() - spent) / seconds)
        self._since = time.monotonic() - seconds
        self.end()

    def _plan(self, cost: float) -> None:
        """Say how long the next sample is, 0 where all the time can be followed.

        `cost` is what following takes of a core while it is done.
        """
        cheap = cost < SHARE / 2
        self._sampled = 0.0 if cheap else min(_LONGEST, max(_SHORTEST, _SAMPLE / cost))

    def _count(self, closes: Iterable[Close]) -> None:
        for close in closes:
            if self._trace.asks_for_ports(close.local_port, close.remote_port):
                self._counter.add(close)

    def end(self) -> None:
        """Let go of the source."""
        if self._followed is None:
            return
        self._seconds += time.monotonic() - self._since
        losses = self._followed.losses()
        self._lost = _sum(self._lost, losses.trace_events, losses.announcements)
        self._followed = None
        self._stack.close()

    def _forget(self) -> None:
        """Count nothing of the time since the last look: some of its ends are missing."""
        self._counter.take(0.0)
        self._seconds = 0.0

    def take(self) -> tuple[Following, Ended]:
        """Return how the ends are followed, and those since the last call."""
        now, lost = time.monotonic(), self._lost
        if self._followed is not None:
            self._seconds += now - self._since
            self._since = now
            losses = self._followed.losses()
            lost = _sum(lost, losses.trace_events, losses.announcements)
        if (lost or 0) > self._told_lost:
            self._forget()
        ends = self._counter.take(self._seconds)
        share = self._share(now)
        self._told_lost = lost or 0
        self._seconds, self._spent, self._taken = 0.0, 0.0, now
        return Following(self._source, self._sentence, min(1.0, share), lost), ends

    def _share(self, now: float) -> float:
        """Return which part of the last minute was followed."""
        self._stretches.append(_Stretch(now, now - self._taken, self._seconds, self._spent))
        while self._stretches[0].at < now - MINUTE:
            self._stretches.popleft()
        passed = sum(one.passed for one in self._stretches)
        return sum(one.followed for one in self._stretches) / passed if passed else 1.0


def _sum(*counts: int | None) -> int | None:
    """Return the sum of what was counted, None where nothing was."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
