"""The kernel's TIME_WAIT table is nearly full, or has overflowed.

What it means:
Each network namespace keeps at most net.ipv4.tcp_max_tw_buckets sockets in TIME_WAIT, the
orphaned FIN_WAIT2 sockets included. Above that number a closing socket goes straight to CLOSED
and TcpExt.TCPTimeWaitOverflow counts it; recent kernels log nothing.

Why it matters:
Connections still work, but without TIME_WAIT a lost last ACK is answered with RST and a late
segment of an old connection can reach a new one on the same ports. At the cap every count of
TIME_WAIT per destination is a lower bound, which hides port exhaustion.

What to do:
Raise tcp_max_tw_buckets, then reduce the closing rate at its source: the findings on servers that
close first and on connection churn name it.

What not to do:
- Do not lower tcp_max_tw_buckets to get rid of TIME_WAIT: it removes the protection, not the
  cause.
- Do not lower tcp_fin_timeout: it does not shorten TIME_WAIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, HostSubject, Place, Severity
from twdiag.model.limits import ratio
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind
from twdiag.rules.rule import Group, Rule
from twdiag.tcp import LONGEST_TIME_WAIT_SECONDS, State
from twdiag.wording import count, rate, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits

NAME = "time-wait-table-filling"
WARNING = ratio("time-wait-table-warning", 0.7, "TIME_WAIT as a share of tcp_max_tw_buckets")
CRITICAL = ratio("time-wait-table-critical", 0.9, "TIME_WAIT as a share of tcp_max_tw_buckets")
_SIZE = "net.ipv4.tcp_max_tw_buckets"
_OVERFLOW = "TcpExt.TCPTimeWaitOverflow"


class _Table(NamedTuple):
    """The table: how much of it is used, None for a table of size 0, and what was lost."""

    used: int
    size: int
    ratio: float | None
    lost: int | None


def select(view: View, limits: Limits) -> Iterator[Group[_Table]]:
    """Yield the table where it fills or overflows."""
    size, used = view.sysctl(_SIZE), view.sockstat("TCP.tw")
    if size is None or used is None:
        return
    table = _Table(used, size, used / size if size > 0 else None, view.grown(_OVERFLOW))
    if _severity(table, limits) is not Severity.OK:
        yield Group(table)


def tell(view: View, limits: Limits, group: Group[_Table]) -> Iterator[Finding]:
    """Yield the finding."""
    table, closes, overflows = group.about, view.closes, view.counter(_OVERFLOW)
    yield Finding(
        _severity(table, limits),
        Confidence.OBSERVED,
        _summary(table, overflows),
        HostSubject(),
        {
            facts.TIME_WAIT: table.used,
            facts.LIMIT: table.size,
            facts.USED_RATIO: None if table.ratio is None else round(table.ratio, 4),
            facts.OVERFLOWS_SINCE_BOOT: overflows,
            facts.OVERFLOWS: table.lost,
            facts.CLOSES: round(closes.mean, 2),
            facts.CLOSES_NOW: round(view.closing.now, 2),
            facts.CLOSES_AT_LEAST: view.closing.hidden,
            facts.PROJECTED: round(view.closing.now * 60),
        },
        _advice(view, table.size, view.closing.now),
        Place.of(State.TIME_WAIT),
    )


def _severity(table: _Table, limits: Limits) -> Severity:
    if table.lost:
        return Severity.CRITICAL
    if table.ratio is None:
        return Severity.OK  # a table of size 0 is a setting, and misleading-sysctl's
    if table.ratio >= limits[CRITICAL]:
        return Severity.CRITICAL
    return Severity.WARNING if table.ratio >= limits[WARNING] else Severity.OK


def _summary(table: _Table, overflows: int | None) -> str:
    text = f"{table.used:,} of {count(table.size, 'TIME_WAIT slot')} used"
    if table.ratio is not None:
        text += f" ({share(table.ratio)})"
    if table.lost:
        return f"{text}; {count(table.lost, 'socket')} lost their TIME_WAIT between the two samples"
    if overflows and table.ratio is not None and table.ratio >= 1:
        return f"{text}; {count(overflows, 'socket')} lost their TIME_WAIT since boot"
    return text


def _advice(view: View, size: int, recent: float) -> tuple[Advice, ...]:
    # The default is half of the connection hash table.
    default = abs(view.sysctl("net.ipv4.tcp_ehash_entries") or 0) // 2
    settles = int(recent * LONGEST_TIME_WAIT_SECONDS * 1.5) // 1000 * 1000
    wanted = max(2 * size, default, settles)
    return (
        Advice(
            "Give the table room",
            f"sysctl -w {_SIZE}={wanted}",
            f"about 256 bytes each: {wanted * 256 // 1_048_576 or 1} MiB when full",
            "this stays the same: nstat -az TcpExtTCPTimeWaitOverflow",
        ),
        Advice(
            "Reduce the closes at their source",
            "keep connections alive or pool them"
            + (f"; they close at {rate(recent)} now" if recent else ""),
        ),
    )


def rows(view: View, limits: Limits, group: Group[_Table]) -> RowsBehind:
    """Return what is in the table: TIME_WAITs, and orphans in FIN_WAIT2."""
    return RowsBehind(lambda socket: socket.is_mini)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "sockstat", _SIZE),
    (WARNING, CRITICAL),
    rows,
)
