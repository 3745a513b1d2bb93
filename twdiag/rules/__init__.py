"""The rules: pure functions from a Snapshot to findings, and the one function that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag import __version__
from twdiag.analysis.half_closed import Kind
from twdiag.census.columns import both, ones
from twdiag.census.table import TIMER_KEEPALIVE
from twdiag.errors import UsageError
from twdiag.model import Gap, Report, Skip
from twdiag.model.limits import nearest
from twdiag.rules import (
    accept_queue_full,
    bound_ports_running_out,
    close_wait_idle_pool,
    close_wait_leak,
    close_wait_never_accepted,
    close_wait_unread,
    connection_churn,
    fd_limit_near,
    fin_unanswered,
    listener_in_ephemeral_range,
    misleading_sysctl,
    peer_never_closes,
    ports_running_out,
    restart_blocked,
    server_closes_first,
    syn_unanswered,
    time_wait_rising,
    time_wait_table_filling,
)
from twdiag.tcp import State
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.model import Finding, Rule, Snapshot, Value
    from twdiag.model.limits import Limits

RULES: Final[tuple[Rule, ...]] = (
    ports_running_out.RULE,
    bound_ports_running_out.RULE,
    time_wait_table_filling.RULE,
    time_wait_rising.RULE,
    server_closes_first.RULE,
    connection_churn.RULE,
    close_wait_leak.RULE,
    close_wait_unread.RULE,
    close_wait_never_accepted.RULE,
    close_wait_idle_pool.RULE,
    fd_limit_near.RULE,
    accept_queue_full.RULE,
    peer_never_closes.RULE,
    fin_unanswered.RULE,
    syn_unanswered.RULE,
    restart_blocked.RULE,
    listener_in_ephemeral_range.RULE,
    misleading_sysctl.RULE,
)
"""Every rule, in the order in which findings of the same severity are shown."""


def select(chosen: Iterable[str] = (), ignored: Iterable[str] = ()) -> tuple[Rule, ...]:
    """Return the rules that --select and --ignore leave; UsageError for a name that is none."""
    chosen, ignored = tuple(chosen), tuple(ignored)
    names = [rule.name for rule in RULES]
    for name in (*chosen, *ignored):
        if name not in names:
            raise UsageError(
                f"there is no rule {name!r}{nearest(name, names)}", "list them with: twdiag explain"
            )
    return tuple(
        rule for rule in RULES if (not chosen or rule.name in chosen) and rule.name not in ignored
    )


def inodes_wanted(snapshot: Snapshot, limits: Limits, rules: Iterable[Rule] = RULES) -> set[int]:
    """Return the socket inodes whose owners the rules would name on this snapshot."""
    wanted: set[int] = set()
    for rule in rules:
        if rule.inodes is not None and _unseen_need(rule, snapshot) is None:
            wanted.update(rule.inodes(snapshot, limits))
    wanted.discard(0)
    return wanted


def analyze(snapshot: Snapshot, limits: Limits, rules: Iterable[Rule] = RULES) -> Report:
    """Run the rules over a snapshot; a rule whose needs were not seen is recorded as skipped."""
    rules = tuple(rules)
    findings: list[Finding] = []
    skipped: list[Skip] = []
    for rule in rules:
        gap = _unseen_need(rule, snapshot)
        if gap is None:
            findings.extend(rule.check(snapshot, limits))
        else:
            skipped.append(Skip(rule.name, gap.why, gap.how))
    skipped.extend(_blind(snapshot, limits, rules))
    findings.sort(key=lambda finding: -finding.severity)
    timed = "timers" not in snapshot.missing
    return Report(
        version=__version__,
        taken_at=snapshot.taken_at,
        host=snapshot.host,
        source=snapshot.source,
        netns=snapshot.netns,
        states=snapshot.sockets.count_states(),
        closes=snapshot.flows.closes.seconds if timed else None,
        findings=tuple(findings),
        skipped=tuple(skipped),
        gaps=(*snapshot.gaps, *_unjudged(snapshot, limits)),
        facts=_facts(snapshot),
    )


def _unseen_need(rule: Rule, snapshot: Snapshot) -> Gap | None:
    """Return the gap that keeps a rule from looking; "x|earlier" is met by two samples too."""
    gaps = {gap.what: gap for gap in snapshot.gaps if not gap.partial}
    for need in rule.needs:
        name, _, alternative = need.partition("|")
        earlier = snapshot.earlier
        if alternative == "earlier" and earlier and "sockets" not in earlier.missing:
            continue
        if name in gaps:
            return gaps[name]
    return None


def _blind(snapshot: Snapshot, limits: Limits, rules: Iterable[Rule]) -> Iterator[Skip]:
    """Yield a skip where sockets wait whose owner, and so its descriptor limit, was not seen."""
    if fd_limit_near.RULE not in rules:
        return
    unseen = sum(
        1
        for waiting in snapshot.close_waits
        if waiting.kind is not Kind.NEVER_ACCEPTED
        and snapshot.sockets.inode[waiting.row] not in snapshot.owners
    )
    gap = next((gap for gap in snapshot.gaps if gap.what == "owners"), None)
    if gap is not None and unseen >= limits["close-wait-notice"]:
        yield Skip(fd_limit_near.NAME, gap.why, gap.how)


def _unjudged(snapshot: Snapshot, limits: Limits) -> Iterator[Gap]:
    """Yield a gap where CLOSE_WAITs may be leaks for all that can be seen: nobody knows their age.

    A keepalive answer makes a socket look young, and MPTCP does not show ages.
    """
    least, timers = limits["close-wait-age"], snapshot.sockets.timer
    doubtful = sum(
        1
        for waiting in snapshot.close_waits
        if (waiting.age_min or 0.0) < least
        and (waiting.age_max is None or waiting.age_max >= least)
        and (waiting.age_max is None or timers[waiting.row] == TIMER_KEEPALIVE)
    )
    if "tcp-info" in snapshot.missing:
        return  # the rules are skipped, and say so themselves
    if doubtful >= limits["close-wait-notice"]:
        why = f"{count(doubtful, 'CLOSE_WAIT socket')} may be older than they look"
        yield Gap("close-wait-age", why, f"compare two samples: --interval {least + 2:g}", True)


def _facts(snapshot: Snapshot) -> dict[str, Value]:
    """Return the numbers behind a report that has nothing to complain about."""
    flows = snapshot.flows
    waiting = flows.time_wait
    by_server = ones(both(waiting, flows.server_side))
    by_client = ones(both(waiting, flows.client_side))
    busiest = flows.busiest_destination()
    facts: dict[str, Value] = {
        "sockets": len(snapshot.sockets),
        "time_wait": ones(waiting),
        "time_wait_server_closed": by_server,
        "time_wait_client_closed": by_client,
        "time_wait_limit": snapshot.sysctl("net.ipv4.tcp_max_tw_buckets"),
        "close_wait": snapshot.sockets.count_states().get(State.CLOSE_WAIT, 0),
        "ports": flows.budget.ports,
        "sockets_to_small_destinations": flows.connections_left_out,
        "busiest_destination": None,
        "busiest_destination_used": 0,
    }
    if busiest:
        (_, address, port), used = busiest
        facts["busiest_destination"] = f"{snapshot.sockets.addresses.text(address)} port {port}"
        facts["busiest_destination_used"] = used
    return facts
