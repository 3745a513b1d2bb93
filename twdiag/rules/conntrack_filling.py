"""The table of connection tracking is nearly full, or packets were dropped for want of a place.

What it means:
A firewall with state and every NAT keep one entry for each connection, in the table of their
network namespace. net.netfilter.nf_conntrack_max bounds each of these tables; it can be set in the
host's own namespace only. An entry outlives its connection: for 120 s in TIME_WAIT (the socket's
takes 60 s), 30 s for an unanswered UDP packet, 5 days if an established connection falls silent
without an end.

Why it matters:
When the table is full the kernel first throws out an entry whose connection was not answered yet
(early_drop); if there is none nearby it drops the packet that wants a place: connect() times out,
sendto() of UDP fails with EPERM, and the kernel log says "nf_conntrack: table full, dropping
packet". It hits every connection through this host, DNS first.

What to do:
While packets are dropped, raise the limit first. Then look at what fills the table. Most in
TIME_WAIT: many short connections; pool them, or shorten the entry's time. Most in ESTABLISHED: ends
that vanished without a word; let them be forgotten sooner. Most of UDP: DNS and the like; do not
track what needs neither NAT nor state.

What not to do:
- Do not run conntrack -F on a NAT: translated connections that are open lose their way back.
- Do not raise nf_conntrack_max alone by far: with nf_conntrack_buckets as it was, each packet walks
  a longer list.
- Do not lower tcp_fin_timeout or tcp_max_tw_buckets: they are about sockets, not about this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import conntrack, facts
from twdiag.model.findings import Advice, Confidence, Finding, HostSubject, Severity
from twdiag.model.limits import ratio
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.rule import Group, Rule
from twdiag.rules.snat_ports_running_out import forget_silent
from twdiag.wording import count, duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits

NAME = "conntrack-filling"
WARNING = ratio("conntrack-warning", 0.75, "conntrack entries as a share of nf_conntrack_max")
CRITICAL = ratio("conntrack-critical", 0.9, "conntrack entries as a share of nf_conntrack_max")
_MAX = "net.netfilter.nf_conntrack_max"
_TIME_WAIT = "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
_SHORT = 30
"""Seconds: half of what the socket itself takes, longer than any segment is late today."""
_OTHERS = "others"


class _Table(NamedTuple):
    """The table: its entries, by state as far as they were looked at, and what it cost since.

    `dropped` are packets without an entry, those left out whose port or race was the reason;
    `evicted` entries thrown out of the full table.  None without an earlier sample.
    """

    entries: int
    maximum: int
    states: Mapping[str, int]
    dropped: int | None
    evicted: int | None

    @property
    def ratio(self) -> float:
        return self.entries / self.maximum


def select(view: View, limits: Limits) -> Iterator[Group[_Table]]:
    """Yield the table where it fills or has been full; nothing where nothing is tracked."""
    seen = view.conntrack
    if seen is None or seen.counters is None or not seen.maximum or not seen.counters.entries:
        return
    states = dict(seen.states)
    if seen.others:
        states[_OTHERS] = seen.others
    dropped, failed = view.grown(conntrack.DROP), view.grown(conntrack.INSERT_FAILED)
    # A SYN that finds no port, or loses a race, counts in both.
    without_place = None if dropped is None or failed is None else max(0, dropped - failed)
    table = _Table(
        seen.counters.entries,
        seen.maximum,
        states,
        without_place,
        view.grown(conntrack.EARLY_DROP),
    )
    if _severity(table, limits) is not Severity.OK:
        yield Group(table)


def tell(view: View, limits: Limits, group: Group[_Table]) -> Iterator[Finding]:
    """Yield the finding."""
    table = group.about
    states = _by_number(table)
    yield Finding(
        _severity(table, limits),
        Confidence.OBSERVED,
        _summary(table),
        HostSubject(),
        {
            facts.ENTRIES: table.entries,
            facts.ENTRIES_MAX: table.maximum,
            facts.USED_RATIO: round(table.ratio, 4),
            facts.NEW_TABLE_DROPS: table.dropped,
            facts.NEW_EVICTIONS: table.evicted,
            facts.TABLE_DROPS: view.counter(conntrack.DROP),
            facts.EVICTIONS: view.counter(conntrack.EARLY_DROP),
            facts.INSERT_FAILED: view.counter(conntrack.INSERT_FAILED),
            facts.ENTRY_STATES: states,
            facts.STATE_ENTRIES: [table.states[state] for state in states],
        },
        _advice(view, table),
    )


def _severity(table: _Table, limits: Limits) -> Severity:
    """Return how bad it is; entries are thrown out of a full table only, packets dropped there too.

    Drops alone have other reasons, so they count beside a table that fills or that was full.
    """
    if table.dropped and (table.evicted or table.ratio >= limits[WARNING]):
        return Severity.CRITICAL
    if table.ratio >= limits[CRITICAL]:
        return Severity.CRITICAL
    return Severity.WARNING if table.evicted or table.ratio >= limits[WARNING] else Severity.OK


def _by_number(table: _Table) -> list[str]:
    return sorted(table.states, key=lambda state: (-table.states[state], state))


def _summary(table: _Table) -> str:
    text = f"{table.entries:,} of {table.maximum:,} conntrack entries used ({share(table.ratio)})"
    looked_at = sum(table.states.values())
    if looked_at:
        main = _by_number(table)[0]
        name = "not of TCP" if main == _OTHERS else f"in {main}"
        most = table.states[main]
        text += f", {'all' if most == looked_at else share(most / looked_at)} of them {name}"
    if table.dropped:
        return f"{text}; {count(table.dropped, 'packet')} dropped between the two samples"
    if table.evicted:
        return (
            f"{text}; {count(table.evicted, 'entry', 'entries')} thrown out since the first sample"
        )
    return text


def _advice(view: View, table: _Table) -> tuple[Advice, ...]:
    raised = Advice(
        "Raise the limit, on the host itself, not in a container",
        f"sysctl -w {_MAX}={2 * table.maximum}",
        "memory, some 400 bytes an entry; longer searches unless nf_conntrack_buckets grows too",
        "room again: sysctl net.netfilter.nf_conntrack_count",
    )
    see = Advice(
        "See whose connections they are",
        "conntrack -L -p tcp | awk '{print $5}' | sort | uniq -c | sort -n",
    )
    main = _by_number(table)[0] if table.states else ""
    causes = _about(view, main)
    # No room is left: room first.  Else there is time to see whose connections they are.
    full = table.dropped or table.entries >= table.maximum
    return (raised, *causes, see) if full else (see, *causes, raised)


def _about(view: View, main: str) -> tuple[Advice, ...]:
    """Return what to do about the entries that there are most of."""
    if main in conntrack.OVER:
        seconds = view.sysctl(_TIME_WAIT) or 120
        shorter = Advice(
            "Forget closed connections sooner",
            f"sysctl -w {_TIME_WAIT}={_SHORT}",
            "late segments of a closed connection count as invalid; sockets are not concerned",
        )
        return (
            Advice(
                "Pool connections, or keep them alive",
                f"each close leaves an entry for {duration(seconds)}",
            ),
            *((shorter,) if seconds > _SHORT else ()),
        )
    if main == "ESTABLISHED":
        return forget_silent(view)
    if main == _OTHERS:
        return (
            Advice(
                "Do not track what needs neither NAT nor state",
                "such as this host's DNS server, in a chain of hook prerouting, priority raw: "
                "nft add rule ip raw PREROUTING udp dport 53 notrack",
                "rules by state (ct state) no longer match these packets; allow both directions",
            ),
        )
    if not main:
        return (
            Advice("Find out what fills it", "as root, twdiag tells the states of its entries"),
        )
    return (
        Advice(
            "Find out why connections are not answered",
            f"most entries are in {main}, which tells of a scan, a flood or a server that is gone",
        ),
    )


RULE = Rule(NAME, manual.text_of(__doc__, __file__), select, tell, (), (WARNING, CRITICAL))
