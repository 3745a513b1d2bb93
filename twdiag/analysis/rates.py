"""How fast connections close: by the rows that are still there, and by the kernel's counters.

A TIME_WAIT whose port is used again is replaced, and one that finds the table full is never made:
then the rows tell less than what happened, while TcpExt TW and TCPTimeWaitOverflow count it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.census import History
    from twdiag.model.snapshot import Pace

MADE: Final = "TcpExt.TW"
REFUSED: Final = "TcpExt.TCPTimeWaitOverflow"
_MUCH_MORE: Final = 1.2
_NEARLY_ALL: Final = 0.9


class Closing(NamedTuple):
    """The closes of a namespace: `by_rows` a second, and `counted` by the kernel, None unseen.

    `hidden` tells that the rows do not show all of them.
    """

    by_rows: float
    counted: float | None
    hidden: bool

    @property
    def now(self) -> float:
        """Closes per second."""
        return self.counted if self.hidden and self.counted is not None else self.by_rows


class Rate(NamedTuple):
    """The closes of a group a second; `at_least` where there may be more."""

    value: float
    at_least: bool = False


def closing(closes: History, pace: Pace | None) -> Closing:
    """Return how fast connections close, given what the counters did during the look."""
    if pace is None or MADE not in pace.grown:
        return Closing(closes.recent, None, False)
    counted = events(pace.grown)
    expected = closes.recent * pace.seconds
    # Chance alone (Poisson) hardly ever exceeds three standard deviations.
    surely_more = counted > expected + 3 * expected**0.5 + 3
    hidden = surely_more and counted > _MUCH_MORE * expected
    return Closing(closes.recent, counted / pace.seconds, hidden)


def events(grown: Mapping[str, int]) -> int:
    """Return the closes that counters saw, with those that got no TIME_WAIT."""
    return grown.get(MADE, 0) + grown.get(REFUSED, 0)


def rate_of(group: History, all_closes: History, closing: Closing) -> Rate:
    """Return the closing rate of a group: the counters' where it has nearly all TIME_WAITs."""
    if not closing.hidden or closing.counted is None:
        return Rate(group.recent)
    if group.total >= _NEARLY_ALL * all_closes.total:
        return Rate(closing.counted)
    return Rate(group.recent, at_least=True)
