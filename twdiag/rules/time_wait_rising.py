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

from twdiag.model import Advice, Confidence, Finding, HostSubject, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.tcp import TIME_WAIT_SECONDS, State
from twdiag.wording import count, rate, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "time-wait-rising"
MANUAL = __doc__ or ""
_SIZE = "net.ipv4.tcp_max_tw_buckets"


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding where the closing rate has risen and where it settles matters."""
    size = snapshot.sysctl(_SIZE)
    closes = snapshot.flows.closes
    projected = round(closes.recent * TIME_WAIT_SECONDS)
    if size is None or size <= 0 or projected < limits["time-wait-rising-table"] * size:
        return
    if closes.recent < limits["time-wait-rising-factor"] * closes.before:
        return
    above = "above" if projected > size else f"{share(projected / size)} of"
    yield Finding(
        NAME,
        Severity.NOTICE,
        Confidence.INFERRED,
        f"{rate(closes.recent)} connections close here now, {rate(closes.before)} before: "
        f"{count(closes.total, 'TIME_WAIT')} will settle at {projected:,}, {above} the table's "
        f"{size:,}",
        HostSubject(),
        {
            "time_wait": closes.total,
            "closes_per_second": closes.recent,
            "closes_per_second_before": round(closes.before, 2),
            "closes_per_second_history": list(closes.seconds),
            "projected": projected,
            "limit": size,
            "projected_ratio": round(projected / size, 4),
        },
        manual.why(MANUAL),
        (
            Advice(
                "Find what began to open and close connections",
                "the other findings name the server or destination; look at the last deployment",
                verify="twdiag diagnose shows the rate of each second",
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(State.TIME_WAIT),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "timers", _SIZE))
