"""Run the rules: select all, let the caller look the owners up once, tell all."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twdiag import __version__
from twdiag.analysis.half_closed import CloseWaitKind
from twdiag.model import facts
from twdiag.model.findings import Finding, ListenerSubject, ProcessSubject, Report, Skip
from twdiag.model.snapshot import Gap
from twdiag.model.sockets import TIMER_KEEPALIVE
from twdiag.named import NamedTuple
from twdiag.rules import close_wait, fd_limit_near, manual
from twdiag.rules.behind import narrowed
from twdiag.tcp import State
from twdiag.wording import command_of, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twdiag.analysis.view import View
    from twdiag.model.findings import Value
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind
    from twdiag.rules.rule import Group, Rule


class Selection(NamedTuple):
    """What concerns each rule, and the rules that could not look."""

    view: View
    limits: Limits
    groups: tuple[tuple[Rule[Any], tuple[Group[Any], ...]], ...]
    skipped: tuple[Skip, ...]

    @property
    def inodes(self) -> set[int]:
        """The inodes of the sockets whose owners the rules would name."""
        found = {i for _, groups in self.groups for group in groups for i in group.inodes}
        return found - {0}

    @property
    def pids(self) -> set[int]:
        """The processes whose descriptors the rules would tell apart."""
        return {pid for _, groups in self.groups for group in groups for pid in group.pids}


def select(view: View, limits: Limits, rules: Iterable[Rule[Any]]) -> Selection:
    """Return what concerns the rules; one whose needs were not seen is recorded as skipped."""
    groups, skipped = [], []
    for rule in rules:
        gap = _unseen_need(rule, view)
        if gap is None:
            groups.append((rule, tuple(rule.select(view, limits))))
        else:
            skipped.append(Skip(rule.name, gap.why, gap.how))
    return Selection(view, limits, tuple(groups), tuple(skipped))


def tell(selection: Selection, view: View) -> Report:
    """Return the report on a selection; `view` is the same view with owners."""
    limits, snapshot = selection.limits, view.snapshot
    findings = [
        _completed(rule, held, finding, view)
        for rule, groups in selection.groups
        for group in groups
        for held in (_held(group, view),)
        for finding in rule.tell(view, limits, group)
    ]
    with_rows = {rule.name for rule, _ in selection.groups if rule.rows is not None}
    of_rule = Counter(finding.rule for finding in findings)
    findings = [
        f if f.rule not in with_rows else _with_rows(f, alone=of_rule[f.rule] == 1)
        for f in findings
    ]
    findings.sort(key=lambda finding: -finding.severity)
    rules = {rule.name for rule, _ in selection.groups}
    blind = _blind(view, limits) if fd_limit_near.NAME in rules else ()
    return Report(
        version=__version__,
        taken_at=snapshot.taken_at,
        host=snapshot.host,
        source=snapshot.source,
        netns=snapshot.netns,
        states=view.census.states,
        closes=view.closes.seconds if "timers" not in view.missing else None,
        findings=tuple(findings),
        skipped=(*selection.skipped, *blind),
        gaps=(*snapshot.gaps, *_unjudged(view, limits)),
        facts=_facts(view),
    )


def rows_behind(selection: Selection, view: View) -> list[RowsBehind]:
    """Return which rows stand behind the findings on a selection; `view` has the owners."""
    limits = selection.limits
    return [
        rule.rows(view, limits, group)
        for rule, groups in selection.groups
        if rule.rows is not None
        for group in groups
        if any(True for _ in rule.tell(view, limits, group))
    ]


def _held(group: Group[Any], view: View) -> Mapping[int, list[int]]:
    """Return which sockets of a group each process holds: some groups have 500 of 40 each."""
    held: dict[int, list[int]] = {}
    for inode in group.inodes:
        for owner in view.owners.get(inode, ()):
            held.setdefault(owner.pid, []).append(inode)
    return held


def _completed(
    rule: Rule[Any], held: Mapping[int, list[int]], finding: Finding, view: View
) -> Finding:
    pids = _pids(finding)
    return finding._replace(
        rule=rule.name,
        why=manual.why(rule.manual),
        do_not=manual.do_not(rule.manual),
        netns=view.snapshot.netns,
        pids=pids,
        inodes=tuple({inode: None for pid in pids for inode in held.get(pid, ())}),
    )


def _with_rows(finding: Finding, *, alone: bool) -> Finding:
    """Return a finding with the command that lists the rows behind it, not behind its like."""
    words = ["twdiag", "sockets", "--rule", finding.rule, *([] if alone else narrowed(finding))]
    return finding._replace(rows_command=command_of(words))


def _pids(finding: Finding) -> tuple[int, ...]:
    """Return the processes that a finding is about, that of its subject first."""
    subject, others = finding.subject, finding.evidence.get(facts.PIDS)
    found: list[int] = []
    if isinstance(subject, ProcessSubject) and subject.pid is not None:
        found.append(subject.pid)
    if isinstance(subject, ListenerSubject):
        found += [owner.pid for owner in subject.processes]
    if isinstance(others, list):
        found += [int(pid) for pid in others]
    return tuple(dict.fromkeys(found))


def _unseen_need(rule: Rule[Any], view: View) -> Gap | None:
    """Return the gap that keeps a rule from looking; "x|earlier" is met by two samples too."""
    gaps = {gap.what: gap for gap in view.snapshot.gaps if not gap.partial}
    for need in rule.needs:
        name, _, alternative = need.partition("|")
        earlier = view.earlier
        if alternative == "earlier" and earlier and "sockets" not in earlier.missing:
            continue
        if name in gaps:
            return gaps[name]
    return None


def _blind(view: View, limits: Limits) -> Iterator[Skip]:
    """Yield a skip where sockets wait whose owner, and so its descriptor limit, was not seen."""
    unseen = sum(
        1
        for waiting in view.close_waits
        if waiting.kind is not CloseWaitKind.NEVER_ACCEPTED
        and waiting.socket.inode not in view.owners
    )
    gap = next((gap for gap in view.snapshot.gaps if gap.what == "owners"), None)
    if gap is not None and unseen >= limits[close_wait.NOTICE]:
        yield Skip(fd_limit_near.NAME, gap.why, gap.how)


def _unjudged(view: View, limits: Limits) -> Iterator[Gap]:
    """Yield a gap where CLOSE_WAITs may be leaks for all that can be seen: nobody knows their age.

    A keepalive answer makes a socket look young, and MPTCP does not show ages.
    """
    if "tcp-info" in view.missing:
        return  # the rules are skipped, and say so themselves
    least = limits[close_wait.AGE]
    doubtful = sum(
        1
        for waiting in view.close_waits
        if (waiting.age_min or 0.0) < least
        and (waiting.age_max is None or waiting.age_max >= least)
        and (waiting.age_max is None or waiting.socket.timer == TIMER_KEEPALIVE)
    )
    if doubtful >= limits[close_wait.NOTICE]:
        why = f"{count(doubtful, 'CLOSE_WAIT socket')} may be older than they look"
        yield Gap("close-wait-age", why, f"compare two samples: --interval {least + 2:g}", True)


def _facts(view: View) -> dict[str, Value]:
    """Return the numbers behind a report that has nothing to complain about."""
    census = view.census
    waiting = census.all.time_wait.total
    by_clients = census.by_client.time_wait.total + census.fixed.time_wait.total
    by_servers = sum(server.tally.time_wait.total for server in census.servers)
    busiest = census.destinations[0] if census.destinations else None
    return {
        facts.SOCKETS: sum(census.states.values()) + len(view.bound),
        facts.TIME_WAIT: waiting,
        facts.BY_SERVERS: by_servers,
        facts.BY_CLIENTS: by_clients,
        facts.BY_UNKNOWN: max(0, waiting - by_clients - by_servers),
        facts.TIME_WAIT_LIMIT: view.sysctl("net.ipv4.tcp_max_tw_buckets"),
        facts.CLOSE_WAIT: view.count(State.CLOSE_WAIT),
        facts.PORTS: view.budget.ports,
        facts.SMALL_DESTINATIONS: census.left_out,
        facts.BUSIEST: f"{busiest.address} port {busiest.port}" if busiest else None,
        facts.BUSIEST_USED: busiest.sockets if busiest else 0,
    }
