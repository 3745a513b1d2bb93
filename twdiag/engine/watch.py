"""Look at a namespace again and again, and follow the ends of connections in between.

It takes 5 % of a core at most: looks slow down, and the ends are followed for a part of the time.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag import sources
from twdiag.analysis.elsewhere import placed
from twdiag.analysis.view import View
from twdiag.analysis.wanted import EVERYTHING, Wanted
from twdiag.engine.asked import Asked, choice_of
from twdiag.engine.folding import ScreenMemory, fold, pace
from twdiag.engine.follower import SAVED, Account, Follower
from twdiag.engine.frames import Cost, Sight, related
from twdiag.engine.look import filtered
from twdiag.errors import UsageError
from twdiag.model.snapshot import HOST_NETNS
from twdiag.rules import runner
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from twdiag.engine.frames import Frame
    from twdiag.model.findings import Finding, Report
    from twdiag.model.namespaces import Namespace
    from twdiag.model.snapshot import Breakdown, Gap, Owner, Snapshot

MOST: Final = 0.05
"""The share of a core that the whole of it may take."""

_MEASURED_SECONDS: Final = 10.0
_TOO_SHORT: Final = 3.0
"""What it takes is not told of less: opening the sources alone can be all of a second."""
_COMPARED_SECONDS: Final = 10.0
"""Rules compare with a look that is at least so old, once there is one.

Some judge by what has happened in between, and in a second that may be nothing by chance.
"""

_SEARCH_SECONDS: Final = 0.5
_SEARCH_AGAIN: Final = 10.0
_COSTS: Final = 50
"""A search for owners is repeated only after so many times what the last one took."""


@dataclass(frozen=True)
class WatchRequest(Asked):
    """What to watch, as diagnose has it; `closes` is the source of ended connections."""

    interval: float = 1.0
    netns: str | None = None
    closes: str = "auto"


class Watch:
    """One namespace while it is watched: a context manager.

    It has to be entered in the namespace that is to be watched, `namespace` unless that is this
    process's own, and stay there.
    """

    def __init__(self, request: WatchRequest, namespace: Namespace | None = None) -> None:
        if not request.interval > 0:  # nan too
            raise UsageError("--interval needs a time above 0", "for example --interval 1s")
        choice = choice_of(request)
        self.notes = choice.notes
        self._request = request
        self.namespace = None if namespace is None or namespace.own else namespace
        self._question = choice.question
        self._left_out = choice.left_out
        self._wanted = EVERYTHING
        if request.ports or request.processes:
            self._wanted = Wanted(frozenset(request.ports), frozenset(request.processes))
        self._memory = ScreenMemory()
        self._view: View | None = None
        self._compared = _Compared()
        self._owners = _Owners()
        now = time.monotonic()
        self._looks = Account(MOST, SAVED, now)
        self._follower = Follower(request.ports, request.closes, now)
        self._meter = _Meter()
        self._last: float | None = None
        self._paid = self._charged = 0.0

    def __enter__(self) -> Watch:
        from twdiag.sources.live.namespaces.others import other_namespaces

        if self._request.netns is None:
            self._left_out = [*self._left_out, *other_namespaces()]
        self._follower.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.end()

    @property
    def due(self) -> float:
        """When the next look is due, by the monotonic clock."""
        if self._last is None:
            return 0.0
        self._looks.share = MOST - self._follower.costs
        now = time.monotonic()
        wait = self._looks.wait(now)
        asked = self._last + self._request.interval
        return max(asked, now + wait) if wait else asked

    def waits_for(self) -> list[int]:
        """Return the descriptors that can be read when a connection has ended."""
        return self._follower.waits_for()

    def step(self) -> None:
        """Take in the connections that have ended; call it ten times a second or more often."""
        self._follower.step()

    def reset(self) -> None:
        """Forget the minute and the rows that are gone."""
        self._memory = self._memory.without_past()
        self._follower.forget_idle()

    def rest(self) -> None:
        """Let go of what costs while nobody looks; the next look or step begins again."""
        self._follower.end()
        self._last = None

    def look(self) -> Frame:
        """Return what is there now."""
        at = time.monotonic()
        interval = self._request.interval if self._last is None else at - self._last
        snapshot = sources.collect(self._question.source, 0.0)
        watched = self._follower.watched()
        snapshot = snapshot._replace(pace=pace(self._memory, snapshot, at), watched=watched)
        report = self._judged(snapshot, at)
        assert self._view is not None
        if self._last is None:
            self._follower.expect(self._view.closing.now)
        self._follower.step()
        following, ends = self._follower.take()
        slowed = interval > 1.2 * self._request.interval and self._last is not None
        took = Cost(interval, None if self._last is None else self._meter.share(), slowed)
        sight = Sight(at, report, self._view, ends, following, took, self._owners.pending)
        self._memory, frame = fold(self._memory, sight, self._wanted)
        self._pay()
        self._last = at
        return frame

    def _pay(self) -> None:
        """Charge what was spent since the last look, but for following, which has its own account.

        The next look is paid for beforehand, by what this one took.
        """
        spent = time.process_time() - self._follower.spent
        if self._last is None:
            self._meter = _Meter()  # the first look loads what later ones use
        else:
            cost = spent - self._charged
            self._looks.spend(2 * cost - self._paid)
            self._paid = cost
        self._charged = spent

    def _judged(self, snapshot: Snapshot, at: float) -> Report:
        """Return the report on a snapshot; the view that it was made from is kept."""
        question = self._question
        view = View(snapshot._replace(earlier=self._compared.earlier))
        selection = runner.select(view, question.limits, question.rules)
        owners, gaps = self._owners.of(snapshot, selection.inodes | _held(view), at)
        breakdowns, more = self._owners.breakdowns(snapshot, selection.pids, at)
        self._view = view.with_owners(owners, (*gaps, *more), breakdowns)
        report = filtered(runner.tell(selection, self._view), question)
        self._compared.add(self._view.snapshot, at)
        return report._replace(
            findings=self._placed(report.findings),
            gaps=(*report.gaps, *self._left_out),
            netns=self._request.netns or HOST_NETNS,
        )

    def _placed(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Return findings with commands that work in the namespace, which the screen names."""
        if self.namespace is None:
            return findings
        moved = (placed(finding, self.namespace) for finding in findings)
        return tuple(finding._replace(netns=HOST_NETNS) for finding in moved)

    def explained(self, frame: Frame, part: str, row: object) -> tuple[Finding, ...]:
        """Return the findings that concern a row, with what their processes wait for."""
        from twdiag.engine.causes import with_causes

        found = tuple(related(frame, part, row))
        if self._view is None or not found:
            return found
        return with_causes(frame.report._replace(findings=found), self._view).findings


def _held(view: View) -> set[int]:
    """Return the inodes of the sockets whose owners the screen names."""
    found = {s.inode for listener in view.listeners for s in listener.sockets}
    found |= {s.inode for s in view.sockets(State.CLOSE_WAIT)}
    return found - {0}


class _Compared:
    """The earlier look that rules compare with."""

    def __init__(self) -> None:
        self.earlier: Snapshot | None = None
        self._next: tuple[float, Snapshot] | None = None

    def add(self, snapshot: Snapshot, at: float) -> None:
        """Take in the newest look."""
        plain = snapshot._replace(earlier=None)
        if self._next is None:
            self.earlier, self._next = plain, (at, plain)
        elif at - self._next[0] >= _COMPARED_SECONDS:
            self.earlier, self._next = self._next[1], (at, plain)


class _Owners:
    """Who holds which socket: looked up once, and again now and then.

    `pending` are the inodes that have not been looked for yet.
    """

    def __init__(self) -> None:
        self.pending: frozenset[int] = frozenset()
        self._known: dict[int, tuple[Owner, ...]] = {}
        self._unseen: set[int] = set()
        self._gaps: list[Gap] = []
        self._search_at = self._again_at = 0.0
        self._breakdowns: tuple[dict[int, Breakdown], list[Gap]] = ({}, [])
        self._broken_down: frozenset[int] = frozenset()
        self._break_down_at = 0.0

    def of(
        self, snapshot: Snapshot, inodes: Collection[int], at: float
    ) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
        """Return the owners of these sockets as far as they are known, and what was not seen."""
        wanted = set(inodes)
        self._known = {i: found for i, found in self._known.items() if i in wanted}
        self._unseen &= wanted
        if at >= self._again_at:
            self._search(snapshot, wanted, at)
            self._again_at = max(at + _SEARCH_AGAIN, self._search_at)
        elif (new := wanted - self._known.keys() - self._unseen) and at >= self._search_at:
            # With those not seen before: what is said of them is about all of them.
            self._search(snapshot, new | self._unseen, at)
        self.pending = frozenset(wanted - self._known.keys() - self._unseen)
        return dict(self._known), self._gaps if self._unseen else []

    def _search(self, snapshot: Snapshot, inodes: set[int], at: float) -> None:
        spent = time.process_time()
        found, gaps = sources.find_owners(snapshot, inodes, _SEARCH_SECONDS)
        self._known |= found
        self._unseen = (self._unseen | inodes) - self._known.keys()
        self._gaps = gaps or self._gaps
        self._search_at = at + min(_SEARCH_AGAIN, _COSTS * (time.process_time() - spent))

    def breakdowns(
        self, snapshot: Snapshot, pids: Collection[int], at: float
    ) -> tuple[dict[int, Breakdown], list[Gap]]:
        """Return what the descriptors of these processes are."""
        if self._broken_down != pids or at >= self._break_down_at:
            spent = time.process_time()
            self._breakdowns = sources.break_down(snapshot, pids, _SEARCH_SECONDS)
            self._broken_down = frozenset(pids)
            took = _COSTS * (time.process_time() - spent)
            self._break_down_at = at + max(_SEARCH_AGAIN, took)
        return self._breakdowns


class _Meter:
    """The share of a core that this process took in the last seconds."""

    def __init__(self) -> None:
        self._marks = deque([(time.monotonic(), time.process_time())])

    def share(self) -> float | None:
        """Return the share, None where too little time was measured."""
        now, spent = time.monotonic(), time.process_time()
        self._marks.append((now, spent))
        while len(self._marks) > 2 and self._marks[1][0] <= now - _MEASURED_SECONDS:
            self._marks.popleft()
        began, before = self._marks[0]
        return (spent - before) / (now - began) if now - began >= _TOO_SHORT else None
