"""Outgoing connections to one destination are using up its local ports.

What it means:
A connection is told apart by source address, source port, destination address and destination
port. Towards one destination only the source port is free to choose, from ip_local_port_range
without the reserved ports and without those that a bound socket owns. Every socket on the tuple
takes one, whatever its state; a TIME_WAIT takes it for 60 to 62 s, unless tcp_tw_reuse lets
connect() reuse it.

Why it matters:
When none is left, connect() fails with EADDRNOTAVAIL ("Cannot assign requested address"). Long
before, from half of the ports on, each connect() has to search: measured on Linux 6.18, from 14
microseconds to 1.7 milliseconds, in the kernel, per call.

What to do:
Stop opening a connection per request: pool, keep alive, pipeline. Until then: more
destination addresses or ports, more source addresses, a wider range, and tcp_tw_reuse=1 with TCP
timestamps.

What not to do:
- Do not lower tcp_fin_timeout: it does not shorten TIME_WAIT.
- Do not look for tcp_tw_recycle: it broke clients behind NAT and has been gone since Linux 4.12.
- Do not widen ip_local_port_range down to 1024 without reserving the ports of your listeners.
- Do not lower tcp_max_tw_buckets: it hides the use and loses the protection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.port_use import TW_REUSE, WORTH_A_LOOK
from twdiag.model import facts
from twdiag.model.findings import (
    Advice,
    Confidence,
    DestinationSubject,
    Finding,
    HostSubject,
    Place,
    Severity,
)
from twdiag.model.limits import ratio
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind, of_destination
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import destination_subject, names_of, owner_advice, software_advice
from twdiag.tcp import State
from twdiag.wording import count, duration, endpoint, rate, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.port_use import Use
    from twdiag.analysis.view import View
    from twdiag.model.findings import Value
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Owner

NAME = "ports-running-out"
NOTICE = ratio(
    "ports-notice", 0.5, "ports used to one destination; connect() slows down from here on"
)
WARNING = ratio("ports-warning", 0.7, "ports used to one destination that cannot be reused")
CRITICAL = ratio("ports-critical", 0.9, "ports used to one destination that cannot be reused")
RANGE = "net.ipv4.ip_local_port_range"
_NAMED = (State.TIME_WAIT, State.ESTABLISHED, State.CLOSE_WAIT)
_RECYCLED = "TcpExt.TWRecycled"
_DEFAULT_SIZE = 28_232


def select(view: View, limits: Limits) -> Iterator[Group[Use | None]]:
    """Yield the destinations that near their budget; None where connect() has no port at all."""
    if view.budget.ports <= 0:
        yield Group(None)
        return
    least = max(1, int(min(limits[NOTICE], WORTH_A_LOOK) * view.budget.ports))
    for use in view.port_use:
        if use.used >= least and _severity(view, use, limits) is not Severity.OK:
            yield Group(use, tuple(view.live_inodes(use.destination)))


def tell(view: View, limits: Limits, group: Group[Use | None]) -> Iterator[Finding]:
    """Yield one finding for each destination that nears its budget."""
    use = group.about
    if use is None:
        yield _no_port_at_all(view)
        return
    owners = view.owners_of(group.inodes)
    lower_bound = _at_the_cap(view)
    yield Finding(
        _severity(view, use, limits),
        Confidence.INFERRED if use.reusable else Confidence.OBSERVED,
        _summary(view, use, lower_bound),
        destination_subject(use.destination),
        _evidence(view, use, lower_bound, owners),
        _advice(view, use, owners),
        Place.of(_main_state(use)),
    )


def _severity(view: View, use: Use, limits: Limits) -> Severity:
    if use.taken_ratio >= limits[CRITICAL]:
        return Severity.CRITICAL
    if use.taken_ratio >= limits[WARNING] or use.seconds_to_exhaustion is not None:
        return Severity.WARNING
    if use.used >= use.ports and use.reusable and _nothing_reused(view):
        return Severity.CRITICAL if view.earlier else Severity.WARNING
    return Severity.NOTICE if use.used_ratio >= limits[NOTICE] else Severity.OK


def _nothing_reused(view: View) -> bool:
    """Return whether no TIME_WAIT has been reused, so that those here may not be reusable at all.

    A TIME_WAIT of a client that called bind() first keeps its port from everybody, and no row tells
    which kind it is.  Where connect() does reuse them, TWRecycled counts.
    """
    since = view.grown(_RECYCLED)
    boot = view.counter(_RECYCLED)
    return (boot == 0) if since is None else since == 0


def _no_port_at_all(view: View) -> Finding:
    budget = view.budget
    return Finding(
        Severity.CRITICAL,
        Confidence.OBSERVED,
        f"no port of the range {budget.low}-{budget.high} is left for connect(): "
        f"{len(budget.reserved):,} reserved, {len(budget.blocked):,} bound by other sockets",
        HostSubject(),
        {
            facts.USED: 0,
            facts.PORTS: 0,
            facts.RANGE_LOW: budget.low,
            facts.RANGE_HIGH: budget.high,
            facts.RESERVED: len(budget.reserved),
            facts.BLOCKED: len(budget.blocked),
        },
        (
            Advice(
                "Give connect() some ports",
                f'sysctl -w {RANGE}="32768 60999", or take ports out of ip_local_reserved_ports',
            ),
        ),
    )


def _at_the_cap(view: View) -> bool:
    size, used = view.sysctl("net.ipv4.tcp_max_tw_buckets"), view.sockstat("TCP.tw")
    return size is not None and used is not None and used >= size


def _main_state(use: Use) -> State:
    """Return the state that most of the ports are in."""
    states = use.destination.tally.states
    return max(states, key=lambda state: states[state])


def _summary(view: View, use: Use, lower_bound: bool) -> str:
    destination = use.destination
    least = "at least " if lower_bound else ""
    text = (
        f"{endpoint(destination.address, destination.port)}: {least}{use.used:,} of "
        f"{count(use.ports, 'port')} used from {destination.source}"
    )
    if use.reusable:
        text += f", {use.reusable:,} of them reusable"
        if use.used >= use.ports and _nothing_reused(view):
            text += " unless their clients called bind() first; nothing has been reused"
    if use.used >= use.ports and not use.reusable:
        return f"{text}; connect() fails now"
    if use.seconds_to_exhaustion:
        text += f", full in {duration(use.seconds_to_exhaustion)} at {rate(use.recent)}"
    return text


def _evidence(
    view: View, use: Use, lower_bound: bool, owners: tuple[Owner, ...]
) -> dict[str, Value]:
    budget, tally = view.budget, use.destination.tally
    now = view.rate_of(tally.time_wait)
    return {
        facts.USED: use.used,
        facts.PORTS: use.ports,
        facts.USED_RATIO: round(use.used_ratio, 4),
        facts.REUSABLE: use.reusable,
        facts.TAKEN_RATIO: round(use.taken_ratio, 4),
        facts.PROBABLY_MORE: lower_bound,
        facts.TIME_WAIT: tally.time_wait.total,
        facts.ESTABLISHED: tally.states.get(State.ESTABLISHED, 0),
        facts.CLOSE_WAIT: tally.states.get(State.CLOSE_WAIT, 0),
        facts.OTHER_STATES: tally.sockets - sum(tally.states.get(state, 0) for state in _NAMED),
        facts.CLOSES: round(tally.time_wait.mean, 2),
        facts.CLOSES_NOW: round(now.value, 2),
        facts.CLOSES_AT_LEAST: now.at_least,
        facts.HISTORY: list(tally.time_wait.seconds),
        facts.PROJECTED: use.projected,
        facts.SECONDS_LEFT: use.seconds_to_exhaustion,
        facts.RANGE_LOW: budget.low,
        facts.RANGE_HIGH: budget.high,
        facts.RESERVED: len(budget.reserved),
        facts.BLOCKED: len(budget.blocked),
        facts.TW_REUSE: view.sysctl(TW_REUSE),
        facts.LIKELY_PROCESSES: names_of(owners),
        facts.SUSTAINED: round(use.ports / use.hold_seconds, 1),
    }


def _advice(view: View, use: Use, owners: tuple[Owner, ...]) -> tuple[Advice, ...]:
    subject, budget = destination_subject(use.destination), view.budget
    advice = [_first_advice(use, subject), *software_advice(owners, "client", "pool")]
    if budget.size < _DEFAULT_SIZE:
        advice.append(
            Advice(
                f"Widen the port range, which is {budget.low}-{budget.high}",
                f'sysctl -w {RANGE}="32768 60999"',
                "reserve the ports of listeners inside it (ip_local_reserved_ports)",
            )
        )
    waiting = use.destination.tally.time_wait.total
    if not use.reusable and view.sysctl(TW_REUSE) != 1 and waiting:
        advice.append(
            Advice(
                "As a stopgap, let connect() reuse TIME_WAITs older than a second",
                f"sysctl -w {TW_REUSE}=1",
                "needs TCP timestamps at both ends, and does nothing for clients that bind() first",
                "this grows: nstat -az TcpExtTWRecycled",
            )
        )
    advice.append(
        Advice(
            "Spread over more addresses",
            "more destination addresses or ports, or more source addresses with "
            "IP_BIND_ADDRESS_NO_PORT; each (source, destination, port) has its own budget",
        )
    )
    return (*advice, owner_advice(subject.port))


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


def rows(view: View, limits: Limits, group: Group[Use | None]) -> RowsBehind:
    """Return what takes the ports: the connections to the destination, or what is bound."""
    if group.about is not None:
        return of_destination(view, group.about.destination)
    return RowsBehind(
        lambda s: (s.state is State.LISTEN or s.bound) and s.local_port in view.budget
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", RANGE),
    (NOTICE, WARNING, CRITICAL),
    rows,
)
