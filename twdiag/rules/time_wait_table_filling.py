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

from twdiag.model import Advice, Confidence, Finding, HostSubject, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.tcp import State
from twdiag.wording import count, rate, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "time-wait-table-filling"
MANUAL = __doc__ or ""
_SIZE = "net.ipv4.tcp_max_tw_buckets"
_OVERFLOW = "TcpExt.TCPTimeWaitOverflow"


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding where the table fills or overflows."""
    size = snapshot.sysctl(_SIZE)
    used = snapshot.sockstat.get("TCP.tw")
    if size is None or used is None:
        return
    ratio = used / size if size > 0 else None
    lost = snapshot.grown(_OVERFLOW)
    severity = _severity(ratio, lost, limits)
    if severity is Severity.OK:
        return
    overflows = snapshot.counters.get(_OVERFLOW)
    closes = snapshot.flows.closes
    yield Finding(
        NAME,
        severity,
        Confidence.OBSERVED,
        _summary(used, size, ratio, lost, overflows),
        HostSubject(),
        {
            "time_wait": used,
            "limit": size,
            "used_ratio": None if ratio is None else round(ratio, 4),
            "overflows_since_boot": overflows,
            "overflows": lost,
            "closes_per_second": round(closes.mean, 2),
            "projected": round(closes.recent * 60),
        },
        manual.why(MANUAL),
        _advice(snapshot, size, closes.recent),
        manual.do_not(MANUAL),
        Place.of(State.TIME_WAIT),
        snapshot.netns,
    )


def _severity(ratio: float | None, lost: int | None, limits: Limits) -> Severity:
    if lost:
        return Severity.CRITICAL
    if ratio is None:
        return Severity.OK  # a table of size 0 is a setting, and misleading-sysctl's
    if ratio >= limits["time-wait-table-critical"]:
        return Severity.CRITICAL
    return Severity.WARNING if ratio >= limits["time-wait-table-warning"] else Severity.OK


def _summary(
    used: int, size: int, ratio: float | None, lost: int | None, overflows: int | None
) -> str:
    text = f"{used:,} of {count(size, 'TIME_WAIT slot')} used"
    if ratio is not None:
        text += f" ({share(ratio)})"
    if lost:
        return f"{text}; {count(lost, 'socket')} lost their TIME_WAIT between the two samples"
    if overflows and ratio is not None and ratio >= 1:
        return f"{text}; {count(overflows, 'socket')} lost their TIME_WAIT since boot"
    return text


def _advice(snapshot: Snapshot, size: int, recent: float) -> tuple[Advice, ...]:
    # The default is half of the connection hash table.  64 s: the kernel's timer wheel keeps a
    # TIME_WAIT up to 2 s (HZ=250) to 4 s (HZ=1000) longer than its 60 s.
    default = abs(snapshot.sysctl("net.ipv4.tcp_ehash_entries") or 0) // 2
    wanted = max(2 * size, default, int(recent * 64 * 1.5) // 1000 * 1000)
    return (
        Advice(
            "Give the table room",
            f"sysctl -w {_SIZE}={wanted}",
            f"about 256 bytes each: {wanted * 256 // 1_048_576 or 1} MiB when full",
            "nstat -az TcpExtTCPTimeWaitOverflow stays the same",
        ),
        Advice(
            "Reduce the closes at their source",
            f"{rate(recent)} now; keep connections alive or pool them",
        ),
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", "sockstat", _SIZE))
