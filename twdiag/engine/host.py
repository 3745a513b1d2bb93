"""Look at every network namespace of the host: this one whole, the others within a time budget."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag import sources
from twdiag.analysis.elsewhere import placed
from twdiag.analysis.view import View
from twdiag.engine.ends import with_other_ends
from twdiag.engine.look import Examined, filtered, look_closely
from twdiag.engine.looked import Looked
from twdiag.errors import TwdiagError
from twdiag.model import facts
from twdiag.model.findings import LookedAt, Severity
from twdiag.model.snapshot import HOST_NETNS, OUTSIDE, Gap
from twdiag.rules import RULES, runner
from twdiag.sources.live import rights
from twdiag.wording import few

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twdiag.engine.look import Question
    from twdiag.model.findings import Finding, Report, Value
    from twdiag.model.namespaces import Namespace
    from twdiag.model.snapshot import Snapshot
    from twdiag.sources.live.namespaces.going_round import Visit

BUDGET_SECONDS: Final = 2.0
"""How long the other namespaces may take together: who waits for the report is woken at night."""

_CAUSES_SECONDS: Final = 0.5


class _Seen(NamedTuple):
    """What was seen of a namespace, and when its counters were read (time.monotonic())."""

    snapshot: Snapshot
    counted_at: float


def look_at_all(
    question: Question, seconds: float = BUDGET_SECONDS, *, ask_for_all: bool = False
) -> Report:
    """Return one report on all namespaces; those left out are gaps, with their names.

    Findings of other namespaces carry the name of theirs; states, closes and facts are those of
    this one.  With `ask_for_all`, what hides namespaces altogether is a gap too.
    """
    return widened(look_closely(question), question, seconds, ask_for_all=ask_for_all)


def look_here(question: Question) -> Report:
    """Return the report on this namespace alone; how many others there are is a gap."""
    from twdiag.sources.live.namespaces.others import other_namespaces

    report = _alone(question)
    return report._replace(gaps=(*report.gaps, *other_namespaces()))


def look_in(word: str, question: Question) -> Report:
    """Return the report on the namespace that a word means, with commands that work there.

    Raises UsageError where it means none or several, SourceRefused where it may not be entered.
    """
    from twdiag.engine.netns import resolve
    from twdiag.sources.live.namespaces.entering import inside

    namespace = resolve(word)
    report = inside(namespace, lambda: _alone(question))
    findings = report.findings
    if not namespace.own:
        findings = tuple(placed(finding, namespace) for finding in findings)
    # What the user calls it stands above the findings, and needs not be said of each.
    here = (finding._replace(netns=HOST_NETNS) for finding in findings)
    return report._replace(netns=word, findings=tuple(here))


def _alone(question: Question) -> Report:
    return _merged(with_other_ends([_own(look_closely(question))]), ())


def _own(seen: Examined) -> Looked:
    return Looked(None, seen.report, seen.view)


def widened(
    own: Examined, question: Question, seconds: float, *, ask_for_all: bool = True
) -> Report:
    """Return a report on this namespace with what is found in all others in so many seconds."""
    from twdiag.sources.live.namespaces.search import find_namespaces

    until = time.monotonic() + seconds
    found = find_namespaces()
    others = tuple(namespace for namespace in found.namespaces if not namespace.own)
    looked, gaps = [_own(own)], found.gaps if ask_for_all else ()
    if others:
        from twdiag.sources.live.namespaces.going_round import left_out

        unconnected = _unconnected(own, found.namespaces)
        visits = _visited(others, question, unconnected, until - time.monotonic())
        # What was seen is worth its names, even where the visits took all of the time.
        looked += _reports(visits, question, max(seconds / 4, until - time.monotonic()))
        gaps = (*gaps, *left_out(visits))
    return _merged(with_other_ends(looked, others, seconds / 8), gaps)


# Seeing.


def _unconnected(own: Examined, namespaces: Iterable[Namespace]) -> int | None:
    """Return how many sockets of the host neither listen nor are connected at most."""
    allocated = own.view.sockstat("TCP.alloc")
    if allocated is None:
        return None
    return max(0, allocated - sum(n.usage.inuse for n in namespaces if n.usage))


def _visited(
    others: tuple[Namespace, ...], question: Question, unconnected: int | None, seconds: float
) -> list[Visit[_Seen]]:
    from twdiag.sources.live.namespaces.going_round import visit

    work = partial(_seen, question=question, unconnected=unconnected)
    return list(visit(others, work, seconds, from_outside=_seen_from_outside))


def _seen(namespace: Namespace, question: Question, unconnected: int | None) -> _Seen:
    """Return what is seen of the namespace that this process has entered."""
    counted_at = time.monotonic()
    known = sources.OneOfMany(namespace.pids, unconnected)
    snapshot = sources.collect(question.source, 0.0, known)
    if snapshot.crowded:
        # The sockets of these processes can be looked up only here.
        pids = runner.select(View(snapshot), question.limits, question.rules).pids
        breakdowns, gaps = sources.break_down(snapshot, pids, 0.2)
        snapshot = snapshot._replace(breakdowns=breakdowns, gaps=(*snapshot.gaps, *gaps))
    return _Seen(snapshot, counted_at)


def _seen_from_outside(namespace: Namespace) -> _Seen:
    counted_at = time.monotonic()
    return _Seen(sources.collect_outside(namespace.pids, namespace.table), counted_at)


def _paced(visits: Sequence[Visit[_Seen]]) -> Iterator[tuple[Visit[_Seen], Snapshot]]:
    """Yield what was seen, with how counters have grown since: one wait is enough for all."""
    from twdiag.sources.live.namespaces.search import inode_of

    for one in visits:
        if one.result is None:
            continue
        snapshot, counted_at = one.result
        root = f"/proc/{one.namespace.pid}/net"
        if sources.is_closing(snapshot) and inode_of(f"{root}/tcp") == one.namespace.table:
            time.sleep(max(0.0, counted_at + sources.SHORTEST_PACE - time.monotonic()))
            snapshot = sources.paced(snapshot, counted_at, root)
        yield one, snapshot


# Judging.


def _reports(
    visits: Sequence[Visit[_Seen]], question: Question, owner_seconds: float
) -> list[Looked]:
    """Return the reports on what was seen of other namespaces; owners are looked up once."""
    paced = [
        (one, snapshot._replace(netns=one.namespace.label)) for one, snapshot in _paced(visits)
    ]
    selections = [
        runner.select(View(snapshot), question.limits, question.rules) for _, snapshot in paced
    ]
    inodes = {inode for selection in selections for inode in selection.inodes}
    owners, gaps = sources.find_owners_in([s for _, s in paced], inodes, owner_seconds)
    looked = []
    for (one, snapshot), selection in zip(paced, selections, strict=True):
        seen = gaps if selection.inodes else ()
        view = selection.view.with_owners(owners, seen, snapshot.breakdowns)
        report = filtered(runner.tell(selection, view), question)
        looked.append(Looked(one.namespace, report, view, one.outside))
    return _with_causes(looked) if question.causes else looked


def _with_causes(looked: list[Looked]) -> list[Looked]:
    """Return the looks with what the processes of the findings wait for, the worst first.

    Each look into a namespace takes a pause: those for which no time is left do without.
    """
    from twdiag.engine.causes import asks_for_causes, with_causes
    from twdiag.sources.live.namespaces.entering import inside

    until, done = time.monotonic() + _CAUSES_SECONDS, dict[int, Looked]()
    asking = [n for n, one in enumerate(looked) if asks_for_causes(one.report) and not one.outside]
    for number in sorted(asking, key=lambda n: -looked[n].report.status):
        one, left = looked[number], until - time.monotonic()
        if left <= 0 or one.namespace is None:
            break
        work = partial(with_causes, one.report, one.view, left)
        with contextlib.suppress(TwdiagError):  # it has ended meanwhile; what was seen stands
            done[number] = one._replace(report=inside(one.namespace, work))
    return [done.get(number, one) for number, one in enumerate(looked)]


# Telling.


def _merged(looked: Sequence[Looked], gaps: Iterable[Gap]) -> Report:
    """Return one report on all that was looked at, the worst of all findings first."""
    own = looked[0].report
    harm = {rule.name: number for number, rule in enumerate(RULES)}
    findings = [
        finding if one.namespace is None else placed(finding, one.namespace)
        for one in looked
        for finding in with_containers(one.report).findings
    ]
    findings.sort(key=lambda f: (-f.severity, harm.get(f.rule, 0), _is_elsewhere(f)))
    return own._replace(
        findings=tuple(findings),
        gaps=(*own.gaps, *_gaps_elsewhere(looked), *gaps),
        facts={**own.facts, **_hidden(looked)},
        namespaces=tuple(map(_looked_at, looked)) if len(looked) > 1 else (),
    )


def _is_elsewhere(finding: Finding) -> bool:
    """Return whether the process that has to act is that of another finding."""
    return any(end.must_act for end in finding.other_ends)


def with_containers(report: Report) -> Report:
    """Return a report whose findings name the container of their process, where it has one."""
    from twdiag.sources.live.namespaces.containers import container_of

    containers = {pid: container_of(pid) for f in report.findings for pid in f.pids[:1]}
    real = {pid: c for pid, c in containers.items() if c is not None and not c.is_unit}
    return report._replace(
        findings=tuple(
            finding._replace(container=real.get(finding.pids[0])) if finding.pids else finding
            for finding in report.findings
        ),
    )


def _looked_at(one: Looked) -> LookedAt:
    report = one.report
    sockets = sum(report.states.values())
    return LookedAt(report.netns, sockets, len(report.findings), one.namespace, one.outside)


def _gaps_elsewhere(looked: Sequence[Looked]) -> Iterator[Gap]:
    """Yield what was not seen of other namespaces, once for all of which it is true."""
    outside = [one.report.netns for one in looked if one.outside]
    if outside:
        were = "1 namespace was" if len(outside) == 1 else f"{len(outside)} namespaces were"
        why = f"{were} read from outside ({few(outside)}): no budgets, ages or backlogs there"
        short = f"{len(outside)} read from outside"
        how = rights.to_get(*rights.ENTER)
        yield Gap(OUTSIDE, why, how, partial=True, short=short)
    known = {(gap.what, gap.how) for gap in looked[0].report.gaps}
    places: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], Gap] = {}
    for one in looked[1:]:
        for gap in () if one.outside else one.report.gaps:
            kind = gap.what, gap.how
            if gap.how and kind not in known:
                first.setdefault(kind, gap)
                places.setdefault(kind, []).append(one.report.netns)
    for kind, gap in first.items():
        yield gap._replace(why=f"in {few(places[kind])}: {gap.why}", partial=True)


def _hidden(looked: Sequence[Looked]) -> dict[str, Value]:
    """Return how many findings a filter leaves out everywhere, and the worst of them."""
    numbers = [one.report.facts for one in looked if facts.HIDDEN in one.report.facts]
    if not numbers:
        return {}
    words = [str(found[facts.HIDDEN_WORST]) for found in numbers]
    worst = max((severity for severity in Severity if severity.label in words), default=Severity.OK)
    total = sum(int(str(found[facts.HIDDEN])) for found in numbers)
    return {facts.HIDDEN: total, facts.HIDDEN_WORST: worst.label}
