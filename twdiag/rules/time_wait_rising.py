"""Connections close much faster now than a minute ago, and TIME_WAIT will rise.

What it means:
Every TIME_WAIT carries the time it has left of its 60 s, so one look shows how many connections
closed in each of the last 60 seconds. The sustained rate of the last ten seconds is well above
the rate before. TIME_WAIT settles where as many leave as enter: at the closing rate times 60 s.

Why it matters:
The count you see now is not the count you will have. A minute from now the table and the local
ports of the busiest destination hold what the present rate makes of them.

What to do:
Look for what changed in the last minute: a deployment, a retry storm, a pool that lost its
keep-alive, a load test. Compare the projected number with the limits.

What not to do:
- Do not judge by the present count: it follows the rate with a delay of 60 s.
- Do not tune sysctls against a retry storm: stop the retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.census import MINUTE
from twdiag.model.findings import Advice, Confidence, Finding, HostSubject, Place, Severity
from twdiag.model.limits import Limit, ratio
from twdiag.rules import manual
from twdiag.rules.behind import in_states
from twdiag.rules.rule import Group, Rule
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.wording import rate, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.census import History
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind

NAME = "time-wait-rising"
FACTOR = Limit(
    "time-wait-rising-factor",
    2.0,
    "times",
    "closing rate of the last 10 s against that of the 50 s before",
    1.0,
)
TABLE = ratio("time-wait-rising-table", 0.1, "where the rate settles, as a share of the table")
_SIZE = "net.ipv4.tcp_max_tw_buckets"

_QUIET_SECONDS = 10
"""Seconds at the beginning of the minute without a close that no slow rate is likely to leave."""


def select(view: View, limits: Limits) -> Iterator[Group[int]]:
    """Yield the size of the table where the closing rate has risen and where it settles matters."""
    size, closes = view.sysctl(_SIZE), view.closes
    if size is None or size <= 0 or _projected(view) < limits[TABLE] * size:
        return
    # Where rows are replaced the older seconds show less than happened, and any rate seems to rise.
    if not view.closing.hidden and closes.recent >= limits[FACTOR] * closes.before:
        yield Group(size)


def _projected(view: View) -> int:
    return round(view.closes.recent * TIME_WAIT_SECONDS)


def _began(closes: History) -> int | None:
    """Return how many seconds ago the first close was, None where there were some all along.

    A mean would say of a burst's first seconds that they lasted all the minute.
    """
    quiet = next(at for at, second in enumerate(closes.seconds) if second)
    return MINUTE - quiet if quiet >= _QUIET_SECONDS else None


def tell(view: View, limits: Limits, group: Group[int]) -> Iterator[Finding]:
    """Yield the finding."""
    size, closes, projected = group.about, view.closes, _projected(view)
    began = _began(closes)
    before = f"{rate(closes.before)} on average before"
    if began is not None:
        before = f"none until {began} s ago"
    above = "above" if projected > size else f"{share(projected / size)} of"
    yield Finding(
        Severity.NOTICE,
        Confidence.INFERRED,
        f"TIME_WAIT, now {closes.total:,}, will level off near {projected:,}, {above} the table's "
        f"{size:,}: connections close at {rate(closes.recent)} now, {before}",
        HostSubject(),
        {
            facts.TIME_WAIT: closes.total,
            facts.CLOSES: round(closes.mean, 2),
            facts.CLOSES_NOW: closes.recent,
            facts.CLOSES_BEFORE: round(closes.before, 2),
            facts.CLOSES_BEGAN: began,
            facts.HISTORY: list(closes.seconds),
            facts.PROJECTED: projected,
            facts.LIMIT: size,
            facts.PROJECTED_RATIO: round(projected / size, 4),
        },
        (
            Advice(
                "Find what began to open and close connections",
                "the other findings name the server or destination; look at the last deployment",
                verify="how fast, and who closes, live: twdiag watch",
            ),
        ),
        Place.of(State.TIME_WAIT),
    )


def rows(view: View, limits: Limits, group: Group[int]) -> RowsBehind:
    """Return the TIME_WAITs."""
    return in_states(State.TIME_WAIT)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "timers", _SIZE),
    (FACTOR, TABLE),
    rows,
)
