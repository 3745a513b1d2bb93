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

from twdiag.analysis.port_use import TW_REUSE, WORTH_A_LOOK, uses
from twdiag.model import Advice, Confidence, Finding, HostSubject, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.rules.subjects import client_owners, destination_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import count, duration, endpoint, rate, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.port_use import Use
    from twdiag.model import DestinationSubject, Snapshot, Value
    from twdiag.model.limits import Limits

NAME = "ports-running-out"
MANUAL = __doc__ or ""
RANGE = "net.ipv4.ip_local_port_range"
_NAMED = (State.TIME_WAIT, State.ESTABLISHED, State.CLOSE_WAIT)
_RECYCLED = "TcpExt.TWRecycled"


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield inodes of live sockets to the destinations concerned."""
    for use in uses(snapshot, min(limits["ports-notice"], WORTH_A_LOOK)):
        if _severity(snapshot, use, limits) is not Severity.OK:
            yield from snapshot.flows.live_inodes(use.destination)


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each destination that nears its budget."""
    if snapshot.flows.budget.ports <= 0:
        yield _no_port_at_all(snapshot)
        return
    for use in uses(snapshot, min(limits["ports-notice"], WORTH_A_LOOK)):
        severity = _severity(snapshot, use, limits)
        if severity is not Severity.OK:
            yield _finding(snapshot, use, severity)


def _severity(snapshot: Snapshot, use: Use, limits: Limits) -> Severity:
    if use.taken_ratio >= limits["ports-critical"]:
        return Severity.CRITICAL
    if use.taken_ratio >= limits["ports-warning"] or use.seconds_to_exhaustion is not None:
        return Severity.WARNING
    if use.used >= use.ports and use.reusable and _nothing_reused(snapshot):
        return Severity.CRITICAL if snapshot.earlier else Severity.WARNING
    return Severity.NOTICE if use.used_ratio >= limits["ports-notice"] else Severity.OK


def _nothing_reused(snapshot: Snapshot) -> bool:
    """Return whether no TIME_WAIT has been reused, so that those here may not be reusable at all.

    A TIME_WAIT of a client that called bind() first keeps its port from everybody, and no row tells
    which kind it is.  Where connect() does reuse them, TWRecycled counts.
    """
    since = snapshot.grown(_RECYCLED)
    return not (snapshot.counters.get(_RECYCLED, 1) if since is None else since)


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
        Place.of(_main_state(use)),
        snapshot.netns,
    )


def _no_port_at_all(snapshot: Snapshot) -> Finding:
    budget = snapshot.flows.budget
    return Finding(
        NAME,
        Severity.CRITICAL,
        Confidence.OBSERVED,
        f"no port of the range {budget.low}-{budget.high} is left for connect(): "
        f"{len(budget.reserved):,} reserved, {len(budget.blocked):,} bound by other sockets",
        HostSubject(),
        {
            "used": 0,
            "ports": 0,
            "range_low": budget.low,
            "range_high": budget.high,
            "reserved_ports": len(budget.reserved),
            "blocked_ports": len(budget.blocked),
        },
        manual.why(MANUAL),
        (
            Advice(
                "Give connect() some ports",
                f'sysctl -w {RANGE}="32768 60999", or take ports out of ip_local_reserved_ports',
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(State.SYN_SENT)._replace(next="connect() needs a port"),
        snapshot.netns,
    )


def _at_the_cap(snapshot: Snapshot) -> bool:
    size, used = snapshot.sysctl("net.ipv4.tcp_max_tw_buckets"), snapshot.sockstat.get("TCP.tw")
    return size is not None and used is not None and used >= size


def _main_state(use: Use) -> State:
    """Return the state that most of the ports are in."""
    return max(use.destination.states, key=lambda state: use.destination.states[state])


def _summary(snapshot: Snapshot, use: Use, lower_bound: bool) -> str:
    subject = destination_subject(snapshot, use.destination)
    least = "at least " if lower_bound else ""
    text = (
        f"{endpoint(subject.address, subject.port)}: {least}{use.used:,} of "
        f"{count(use.ports, 'port')} used from {subject.source}"
    )
    if use.reusable:
        text += f", {use.reusable:,} of them reusable"
        if use.used >= use.ports and _nothing_reused(snapshot):
            text += " unless their clients called bind() first; nothing has been reused"
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
        "close_wait": destination.states.get(State.CLOSE_WAIT, 0),
        "other_states": sum(destination.states.values())
        - sum(destination.states.get(state, 0) for state in _NAMED),
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
    advice = [_first_advice(use, subject)]
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
                f"sysctl -w {TW_REUSE}=1",
                "needs TCP timestamps at both ends, and does nothing for clients that bind() first",
                "this grows: nstat -az TcpExtTWRecycled",
            )
        )
    advice[1:1] = software_advice(client_owners(snapshot, use.destination), "client", "pool")
    advice.append(
        Advice(
            "Spread over more addresses",
            "each (source, destination, port) has its own budget: more destination addresses or "
            "ports, or more source addresses with IP_BIND_ADDRESS_NO_PORT",
        )
    )
    return tuple(advice)


def _first_advice(use: Use, subject: DestinationSubject) -> Advice:
    """Return what to do about the state that takes most of the ports."""
    to, state = endpoint(subject.address, subject.port), _main_state(use)
    gone = f"ss -tan dst {ss_address(subject.address)} dport = :{subject.port}"
    if state is State.CLOSE_WAIT:
        return Advice(
            "Let the client close what the server has closed",
            f"most connections to {to} are in CLOSE_WAIT: twdiag explain close-wait-leak",
            verify=f"fewer rows: {gone}",
        )
    if state is State.TIME_WAIT:
        return Advice(
            "Reuse connections instead of opening one per request",
            f"a pool or keep-alive towards {to}",
            "idle connections cost a descriptor and some memory at each end",
            f"fewer rows within 60 s: {gone}",
        )
    return Advice(
        "Hold fewer connections at a time",
        f"smaller pools, or multiplexing over the connections to {to}",
        verify=f"fewer rows: {gone}",
    )


RULE = Rule(NAME, MANUAL, check, ("sockets", RANGE), inodes)
