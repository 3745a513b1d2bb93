"""What the live screen shows: what comes in from a look, and the frame that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from twdiag.analysis.closers import Ended
from twdiag.analysis.rates import MADE, REFUSED
from twdiag.model.findings import DestinationSubject, Finding, ListenerSubject
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twdiag.analysis.budgets import Budget
    from twdiag.analysis.closers import ClosingEnd, ClosingProcess
    from twdiag.analysis.leaks import Leak
    from twdiag.analysis.view import View
    from twdiag.analysis.wanted import RowKey
    from twdiag.model.findings import Report


R = TypeVar("R")


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
    ends: Ended = Ended()
    following: Following = Following()
    cost: Cost = Cost(1.0)
    pending: frozenset[int] = frozenset()


class PerSecond(NamedTuple):
    """A rate now and over the last minute, None where it is not known yet."""

    now: float | None
    minute: float | None


@dataclass(frozen=True)
class Entry(Generic[R]):
    """A row with its place; `gone_at` is when it was first missing, None while it is there."""

    key: RowKey
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
    closers: tuple[Entry[ClosingEnd], ...]
    processes: tuple[Entry[ClosingProcess], ...]
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
