"""Outgoing connections to one destination are using up its local ports.

What it means:
A connection is told apart by source address, source port, destination address and destination
port. Towards one destination only the source port is free to choose, from ip_local_port_range
without the reserved ports and without those that a bound socket owns. Every socket on the tuple
takes one, whatever its state; a TIME_WAIT takes it for 60 s, unless tcp_tw_reuse lets connect()
reuse it.

Why it matters:
When none is left, connect() fails with EADDRNOTAVAIL ("Cannot assign requested address"). Long
before, from half of the ports on, each connect() has to search: measured on Linux 6.18, from 14
microseconds to 1.7 milliseconds, in the kernel, per call.

What to do:
Stop opening a connection per request: pool, keep alive, pipeline. If that cannot be had now: more
destination addresses or ports, more source addresses, a wider range, and tcp_tw_reuse=1 with TCP
timestamps.

What not to do:
- Do not lower tcp_fin_timeout: it does not shorten TIME_WAIT.
- Do not look for tcp_tw_recycle: it broke clients behind NAT and is gone since Linux 4.12.
- Do not widen ip_local_port_range down to 1024 without reserving the ports of your listeners.
- Do not lower tcp_max_tw_buckets: it hides the use and loses the protection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import Advice, Confidence, Finding, Place, Rule, Severity
from twdiag.port_use import TW_REUSE, WORTH_A_LOOK, uses
from twdiag.rules import manual
from twdiag.rules.subjects import client_owners, destination_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import count, duration, endpoint, rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.limits import Limits
    from twdiag.model import Snapshot, Value
    from twdiag.port_use import Use

NAME = "ports-running-out"
MANUAL = __doc__ or ""
RANGE = "net.ipv4.ip_local_port_range"


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield inodes of live sockets to the destinations concerned."""
    for use in uses(snapshot, min(limits["ports-notice"], WORTH_A_LOOK)):
        if _severity(use, limits) is not Severity.OK:
            yield from snapshot.flows.live_inodes(use.destination)


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each destination that nears its budget."""
    for use in uses(snapshot, min(limits["ports-notice"], WORTH_A_LOOK)):
        severity = _severity(use, limits)
        if severity is not Severity.OK:
            yield _finding(snapshot, use, severity)


def _severity(use: Use, limits: Limits) -> Severity:
    if use.taken_ratio >= limits["ports-critical"]:
        return Severity.CRITICAL
    if use.taken_ratio >= limits["ports-warning"] or use.seconds_to_exhaustion is not None:
        return Severity.WARNING
    return Severity.NOTICE if use.used_ratio >= limits["ports-notice"] else Severity.OK


def _finding(snapshot: Snapshot, use: Use, severity: Severity) -> Finding:
    lower_bound = _at_the_cap(snapshot)
    return Finding(
        NAME,
        severity,
        Confidence.INFERRED if use.reusable else Confidence.OBSERVED,
        _summary(snapshot, use, lower_bound),
        destination_subject(snapshot, use.destination),
        _evidence(snapshot, use, lower_bound),
        manual.why(MANUAL),
        _advice(snapshot, use),
        manual.do_not(MANUAL),
        Place.of(State.TIME_WAIT if use.destination.time_wait.total else State.ESTABLISHED),
        snapshot.netns,
    )


def _at_the_cap(snapshot: Snapshot) -> bool:
    size, used = snapshot.sysctl("net.ipv4.tcp_max_tw_buckets"), snapshot.sockstat.get("TCP.tw")
    return size is not None and used is not None and used >= size


def _summary(snapshot: Snapshot, use: Use, lower_bound: bool) -> str:
    subject = destination_subject(snapshot, use.destination)
    least = "at least " if lower_bound else ""
    text = (
        f"{endpoint(subject.address, subject.port)}: {least}{use.used:,} of "
        f"{count(use.ports, 'port')} used from {subject.source}"
    )
    if use.reusable:
        text += f", {use.reusable:,} of them reusable"
    if use.used >= use.ports and not use.reusable:
        return f"{text}; connect() fails now"
    if use.seconds_to_exhaustion:
        text += f", full in {duration(use.seconds_to_exhaustion)} at {rate(use.recent)}"
    return text


def _evidence(snapshot: Snapshot, use: Use, lower_bound: bool) -> dict[str, Value]:
    budget, destination = snapshot.flows.budget, use.destination
    return {
        "used": use.used,
        "ports": use.ports,
        "used_ratio": round(use.used_ratio, 4),
        "reusable": use.reusable,
        "taken_ratio": round(use.taken_ratio, 4),
        "lower_bound": lower_bound,
        "time_wait": destination.time_wait.total,
        "established": destination.states.get(State.ESTABLISHED, 0),
        "other_states": use.used
        - destination.time_wait.total
        - destination.states.get(State.ESTABLISHED, 0),
        "closes_per_second": round(destination.time_wait.mean, 2),
        "recent_closes_per_second": use.recent,
        "closes_per_second_history": list(destination.time_wait.seconds),
        "projected": use.projected,
        "seconds_to_exhaustion": use.seconds_to_exhaustion,
        "range_low": budget.low,
        "range_high": budget.high,
        "reserved_ports": len(budget.reserved),
        "blocked_ports": len(budget.blocked),
        "tcp_tw_reuse": snapshot.sysctl(TW_REUSE),
        "likely_processes": [owner.name for owner in client_owners(snapshot, destination)],
        "sustained_limit_per_second": round(use.ports / use.hold_seconds, 1),
    }


def _advice(snapshot: Snapshot, use: Use) -> tuple[Advice, ...]:
    subject = destination_subject(snapshot, use.destination)
    budget = snapshot.flows.budget
    advice = [
        Advice(
            "Reuse connections instead of opening one per request",
            f"a pool or keep-alive towards {endpoint(subject.address, subject.port)}",
            "idle connections cost a descriptor and some memory at each end",
            f"ss -tan dst {subject.address} dport = :{subject.port} | wc -l falls within 60 s",
        )
    ]
    if budget.size < 28_232:
        advice.append(
            Advice(
                f"Widen the port range, which is {budget.low}-{budget.high}",
                f'sysctl -w {RANGE}="32768 60999"',
                "reserve the ports of listeners inside it (ip_local_reserved_ports)",
            )
        )
    if not use.reusable and snapshot.sysctl(TW_REUSE) != 1 and use.destination.time_wait.total:
        advice.append(
            Advice(
                "As a stopgap, let connect() reuse TIME_WAITs older than a second",
                f"sysctl -w {TW_REUSE}=1 (needs net.ipv4.tcp_timestamps=1 at both ends)",
                "safe with timestamps; it treats the symptom",
                "nstat -az TcpExtTWRecycled grows",
            )
        )
    advice[1:1] = software_advice(client_owners(snapshot, use.destination), "client", "pool")
    advice.append(
        Advice(
            "Spread over more addresses",
            "more destination addresses or ports, or more source addresses with "
            "IP_BIND_ADDRESS_NO_PORT",
            "each (source, destination, port) has its own budget",
        )
    )
    return tuple(advice)


RULE = Rule(NAME, MANUAL, check, ("sockets", RANGE), inodes)
