"""A NAT on this host is running out of source ports towards one destination.

What it means:
A gateway that gives connections another source (SNAT, masquerade) tells them apart by the source
port that it chooses. Towards one destination each new source address has the ports of its rule, or
1024 to 65535 if the rule names none; ip_local_port_range does not matter here. Connection tracking
keeps the port as long as its entry lives: for 5 days if an established connection falls silent, for
120 s after a close. Since Linux 6.5 a new connection can take the port of one that is over, if its
sequence numbers lie ahead of the old ones: every second port, as chance has it.

Why it matters:
When the kernel finds no port it drops the SYN and says nothing: connect() times out behind the
gateway, and ss shows nothing unusual anywhere. The search is bounded: above 128 ports it tries 240
of them, in four runs, so connections begin to fail before all ports are taken; a simulation of that
search with 64,512 ports failed first between 78 % and 89 %.

What to do:
Give the rule more source addresses or more ports: each address has its own. Make the clients reuse
connections. If most entries are ESTABLISHED and silent, their ends are gone: let them be forgotten
sooner. If Cilium or Calico translates by eBPF, or a cloud gateway does, nothing shows here: look
there; the page nat-and-conntrack says how.

What not to do:
- Do not widen ip_local_port_range: NAT does not look at it.
- Do not run conntrack -F: translated connections that are open lose their way back.
- Do not lower nf_conntrack_tcp_timeout_established below the keepalive time of your connections:
  idle ones are cut off.
- Do not count on tcp_tw_reuse: it is about sockets, not about a gateway's entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.snat_use import evicts
from twdiag.model import conntrack, facts
from twdiag.model.findings import Advice, Confidence, DestinationSubject, Finding, Severity
from twdiag.model.limits import ratio
from twdiag.rules import manual
from twdiag.rules.rule import Group, Rule
from twdiag.wording import count, duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.snat_use import SnatUse
    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits

NAME = "snat-ports-running-out"
WARNING = ratio("snat-ports-warning", 0.7, "ports of one SNAT to one destination that are in use")
CRITICAL = ratio("snat-ports-critical", 0.9, "ports of one SNAT to one destination that are in use")
_ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"
_HANDFUL = 8
"""Who gives a rule fewer ports means so few connections: only failures tell that it was wrong."""

_SHORT = 7440
"""Seconds: the least that RFC 5382 (REQ-5) allows, since keepalive probes after two hours."""


def select(view: View, limits: Limits) -> Iterator[Group[SnatUse]]:
    """Yield each SNAT that nears the end of its ports."""
    for use in view.snat_use:
        if _severity(view, use, limits) is not Severity.OK:
            yield Group(use)


def tell(view: View, limits: Limits, group: Group[SnatUse]) -> Iterator[Finding]:
    """Yield one finding for each of them."""
    use = group.about
    snat = use.snat
    yield Finding(
        _severity(view, use, limits),
        Confidence.OBSERVED if snat.by_rule and not use.estimated else Confidence.INFERRED,
        _summary(view, use),
        DestinationSubject(snat.address, snat.destination, snat.port),
        {
            facts.ENTRIES: use.used,
            facts.SNAT_PORTS: snat.ports,
            facts.USED_RATIO: round(use.used_ratio, 4),
            facts.LIVE_ENTRIES: use.live,
            facts.OVER_ENTRIES: use.over,
            facts.NEW_INSERT_FAILED: view.grown(conntrack.INSERT_FAILED),
            facts.INSERT_FAILED: view.counter(conntrack.INSERT_FAILED),
            facts.ENTRY_STATES: _by_number(use),
            facts.STATE_ENTRIES: [use.states[state] for state in _by_number(use)],
            facts.SNAT_LOW: snat.low,
            facts.SNAT_HIGH: snat.high,
            facts.SNAT_BY_RULE: snat.by_rule,
            facts.ESTIMATED: use.estimated,
            facts.PROBABLY_MORE: not use.estimated and not _complete(view),
        },
        _advice(view, use),
    )


def _severity(view: View, use: SnatUse, limits: Limits) -> Severity:
    """Return how bad it is: ports of connections that are over count where the kernel keeps them.

    insert_failed counts races too, so its growth proves something only beside ports that are used.
    """
    ratio = use.live_ratio if evicts(view.snapshot.host.kernel) else use.used_ratio
    failed = bool(view.grown(conntrack.INSERT_FAILED))
    if use.snat.ports < _HANDFUL and not failed:
        return Severity.OK
    if ratio < limits[WARNING]:
        return Severity.WARNING if failed and use.used >= use.snat.ports else Severity.OK
    if failed:
        return Severity.CRITICAL
    sure = ratio >= limits[CRITICAL] and use.live_ratio >= limits[WARNING]
    return Severity.CRITICAL if sure else Severity.WARNING


def _complete(view: View) -> bool:
    return view.conntrack is None or view.conntrack.complete


def _by_number(use: SnatUse) -> list[str]:
    return sorted(use.states, key=lambda state: (-use.states[state], state))


def _summary(view: View, use: SnatUse) -> str:
    snat = use.snat
    least = "about " if use.estimated else "" if _complete(view) else "at least "
    text = (
        f"{endpoint(snat.destination, snat.port)}: {least}{use.used:,} of "
        f"{count(snat.ports, 'NAT source port')} of {snat.address} used"
    )
    if use.over:
        again = "which new ones may take" if evicts(view.snapshot.host.kernel) else "for 120 s each"
        text += f", {use.over:,} by closed connections, {again}"
    failed = view.grown(conntrack.INSERT_FAILED)
    if failed:
        return f"{text}; {count(failed, 'SYN')} got none between the two samples"
    return f"{text}; new connections time out" if use.live >= snat.ports else text


def _advice(view: View, use: SnatUse) -> tuple[Advice, ...]:
    snat = use.snat
    family = "-f ipv6 " if ":" in snat.destination else ""
    family += f"-w {snat.zone} " if snat.zone else ""
    ends = f"--reply-src {snat.destination} --reply-port-src {snat.port}"
    listed = f"conntrack -L {family}-p tcp {ends}"
    more = Advice(
        "Give the NAT rule more source addresses",
        f"in place of {snat.address} a range of them, as in snat to FIRST-LAST",
        "the addresses; every allow list that names yours needs the new ones",
        "insert_failed stands still: conntrack -S",
    )
    wider = Advice(
        f"Widen the port range of the NAT rule, which is {snat.low}-{snat.high}",
        "without a range it has 1024-65535",
        verify="insert_failed stands still: conntrack -S",
    )
    reuse = Advice(
        "Reuse connections instead of opening one per request",
        f"a pool or keep-alive in the clients of {endpoint(snat.destination, snat.port)}",
    )
    see = Advice("See whose connections they are", f"the sources behind the NAT: {listed}")
    first = [see, wider] if snat.by_rule else [see]
    established = use.states.get("ESTABLISHED", 0)
    if 2 * established > use.used:
        return (*first, *forget_silent(view), more, reuse)
    return (*first, reuse, more)


def forget_silent(view: View) -> tuple[Advice, ...]:
    """Return how to forget connections that fell silent, nothing where that is set already."""
    seconds = view.sysctl(_ESTABLISHED)
    if seconds is not None and seconds <= _SHORT:
        return ()
    after = "" if seconds is None else f" than after {duration(seconds)}"
    return (
        Advice(
            f"Forget silent connections sooner{after}",
            f"sysctl -w {_ESTABLISHED}={_SHORT}",
            "connections without a segment for so long are cut off, unless keepalive is shorter; "
            "entries that are silent already keep their time",
            "fewer entries: conntrack -C",
        ),
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("conntrack",),
    (WARNING, CRITICAL),
)
