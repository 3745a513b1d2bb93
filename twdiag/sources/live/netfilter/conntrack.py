"""Read connection tracking: its counters without a right, its entries with CAP_NET_ADMIN.

Counters: net/netfilter/nf_conntrack_standalone.c.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError
from twdiag.model.conntrack import WORTH_A_LOOK, Conntrack, ConntrackCounters
from twdiag.model.snapshot import Gap
from twdiag.sources.live import rights
from twdiag.sources.live.proc import read_text

if TYPE_CHECKING:
    from twdiag.model.nat import NatRules

SECONDS: Final = 0.5
"""How long the entries may take: 150,000 of them.  What is left out is estimated."""

_SMALL: Final = 0.05
"""A SNAT that uses less of its ports is far from any limit."""

_RULES_SECONDS: Final = 0.1
_FEW_ENTRIES: Final = 100
"""With fewer entries hardly any range of ports can run out, and nobody is told to become root."""

# Translators whose connections are in maps of their own, by a device that each of them makes.
_EBPF: Final = (
    ("cilium_host", "Cilium", "cilium-dbg bpf nat list, in its pod of this node"),
    ("bpfin.cali", "Calico", "calico-node -bpf conntrack dump, in its pod of this node"),
)


def parse_counters(text: str) -> ConntrackCounters | None:
    """Return the sums of /proc/PID/net/stat/nf_conntrack, None where its head is not known.

    A head line of names, then a line of hexadecimal numbers for each CPU; "entries" is the same in
    each.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or "entries" not in lines[0]:
        return None
    head, sums = lines[0], Counter[str]()
    entries = 0
    for words in lines[1:]:
        try:
            numbers = dict(zip(head, (int(word, 16) for word in words), strict=True))
        except ValueError:
            return None
        entries = max(entries, numbers["entries"])
        sums.update(numbers)
    names = ("insert_failed", "drop", "early_drop")
    return ConntrackCounters(entries, *(sums[name] for name in names))


def read_counters() -> ConntrackCounters | None:
    """Return the counters of this namespace, None on a kernel without connection tracking.

    Anybody may read them; a kernel without CONFIG_NF_CONNTRACK_PROCFS tells how many entries there
    are, and the rest to those with CAP_NET_ADMIN.
    """
    text = read_text("/proc/self/net/stat/nf_conntrack")
    found = parse_counters(text) if text else None
    if found is not None:
        return found
    entries = _sysctl("nf_conntrack_count")
    if entries is None:
        return None
    from twdiag.sources.live.netfilter.tracked import ask_counters

    try:
        return ConntrackCounters(entries, *ask_counters(SECONDS))
    except SourceError:
        return ConntrackCounters(entries)


def _sysctl(name: str) -> int | None:
    text = (read_text(f"/proc/sys/net/netfilter/{name}") or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def read_conntrack(seconds: float = SECONDS) -> tuple[Conntrack | None, list[Gap]]:
    """Return what connection tracking holds in this namespace, and what could not be seen.

    None on a kernel without it.  Entries are dumped, 3 us each, where there is SNAT, and where they
    fill half of the table.
    """
    gaps = _translated_elsewhere(read_text("/proc/net/dev") or "")
    counters = read_counters()
    if counters is None:
        return None, gaps
    maximum = _sysctl("nf_conntrack_max")
    seen = Conntrack(counters, maximum)
    if not counters.entries:
        return seen, gaps
    # On most hosts nothing is tracked, and none of this is needed.
    from twdiag.sources.live.netfilter.nat_rules import FOR_SOURCES, read_nat_rules
    from twdiag.sources.live.netfilter.tracked import read_entries

    try:
        rules = read_nat_rules(FOR_SOURCES, min(_RULES_SECONDS, seconds))
        with_nat = bool(rules.rules) or not rules.complete
        if not with_nat and counters.entries < WORTH_A_LOOK * (maximum or 0):
            return seen, gaps
        entries = read_entries(rules.rules, seconds)
    except SourceError as error:
        return seen, [*gaps, *_refused(error, counters)]
    found = seen._replace(
        snats=entries.snats(_SMALL) if with_nat else None,
        states=entries.states,
        others=entries.others,
        complete=entries.done,
    )
    if not entries.done:
        read = sum(entries.states.values()) + entries.others
        why = f"{read:,} of {counters.entries:,} conntrack entries were read, the rest is estimated"
        gaps.append(Gap("conntrack-rest", why, "count them: conntrack -C", True))
    return found, [*gaps, *_unread(rules, counters)]


def _refused(error: SourceError, counters: ConntrackCounters) -> list[Gap]:
    """Return the gap of a table that may not be read, none where it can hardly matter."""
    if counters.entries < _FEW_ENTRIES and not counters.insert_failed:
        return []
    why = f"conntrack entries were not seen ({error.what})"
    return [Gap("conntrack", why, error.next_step or rights.to_get(*rights.NETFILTER))]


def _unread(rules: NatRules, counters: ConntrackCounters) -> list[Gap]:
    """Return a gap where there are NAT rules that were not read."""
    if rules.complete or counters.entries < _FEW_ENTRIES:
        return []
    why = "not all NAT rules were read: a range of ports that one of them names may be unknown"
    return [Gap("nat-rules", why, "list them: nft list ruleset", partial=True)]


def _translated_elsewhere(devices: str) -> list[Gap]:
    """Return a gap where eBPF programs translate addresses: no entry shows what they do."""
    names = {line.partition(":")[0].strip() for line in devices.splitlines()}
    for device, who, how in _EBPF:
        if device in names:
            why = f"{who} may translate sources by eBPF, which connection tracking does not show"
            return [Gap("ebpf-nat", why, how, partial=True)]
    return []
