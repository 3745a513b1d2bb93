"""Add to findings what their processes are doing instead, and the command to run next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.analysis.select_limit import FD_SETSIZE, beyond_select
from twdiag.engine.waits import SECONDS, WaitsQuestion, host_names, look_closer
from twdiag.model import facts
from twdiag.model.findings import Advice, ListenerSubject, Step
from twdiag.model.snapshot import Gap
from twdiag.rules import by_cause, idle_established_leak, peer_never_closes
from twdiag.rules.by_cause import CONCERNED, Reason
from twdiag.sources.live.addresses import read_addresses
from twdiag.wording import count

if TYPE_CHECKING:
    from twdiag.analysis.view import View
    from twdiag.engine.waits import WaitsAnswer
    from twdiag.model.findings import Finding, Report

_MOST_ASKED: Final = 20
"""Of how many findings, the worst first, the causes are sought: each takes up to 0.1 s."""


def asks_for_causes(report: Report) -> bool:
    """Return whether a report has findings whose processes are worth a closer look."""
    return any(map(_blames, report.findings))


def _blames(finding: Finding) -> bool:
    """Say whether a finding is about a process that serves its sockets not or too late.

    The process of orphans has closed them: what it does now is nobody's business.
    """
    left = finding.rule == peer_never_closes.NAME and not finding.evidence.get(facts.HELD)
    return finding.rule in CONCERNED and bool(finding.pids) and not left


def with_causes(report: Report, view: View, seconds: float = SECONDS) -> Report:
    """Return the report with what the processes of its findings wait for.

    Each thread is looked at twice, 0.1 s apart.  What may not be read is a gap.
    """
    concerned = [number for number, finding in enumerate(report.findings) if _blames(finding)]
    questions = {
        number: _question(report.findings[number], view) for number in concerned[:_MOST_ASKED]
    }
    if not questions:
        return report
    names = host_names(_listeners(report, view), read_addresses())
    answers, gaps = look_closer(questions, names, seconds)
    gaps += _not_asked(len(concerned) - len(questions))
    findings = tuple(
        _told(finding, answers[number]) if number in answers else finding
        for number, finding in enumerate(report.findings)
    )
    return report._replace(findings=findings, gaps=(*report.gaps, *gaps))


def _not_asked(findings: int) -> list[Gap]:
    """Return the gap of findings of which nobody asked what their processes wait for."""
    if findings <= 0:
        return []
    why = f"what the processes of {count(findings, 'more finding')} wait for was not looked at"
    return [Gap("waits", why, "look at one of them: twdiag --process NAME", partial=True)]


def _question(finding: Finding, view: View) -> WaitsQuestion:
    known = view.by_inode
    concerned = {inode: known[inode] for inode in finding.inodes if inode in known}
    if finding.rule == idle_established_leak.NAME:
        found = (view.breakdown(pid) for pid in finding.pids)
        concerned |= {s.inode: s for seen in found if seen for s in seen.unguarded}
    listeners = {listener for s in concerned.values() if (listener := view.listener_of(s))}
    inodes = [s.inode for listener in listeners for s in listener.sockets]
    return WaitsQuestion(finding.pids, concerned, frozenset(inodes))


def _listeners(report: Report, view: View) -> dict[tuple[str, int], str]:
    """Return the owner's name of each end that serves or has served, "" where it was not seen."""
    found = {(listener.address, listener.port): "" for listener in view.listeners}
    # A server that is about to end has closed its listener, and still has its clients.
    served = (w.socket for w in view.close_waits if w.server)
    found.update(((socket.local_address, socket.local_port), "") for socket in served)
    for subject in (finding.subject for finding in report.findings):
        if isinstance(subject, ListenerSubject) and subject.processes:
            found[subject.address, subject.port] = subject.processes[0].name
    return found


def _told(finding: Finding, answer: WaitsAnswer) -> Finding:
    """Return a finding with the waits of its processes and the next commands for their runtime."""
    waits, conclusion = answer.waits, answer.waits.conclusion
    lines = (conclusion.sentence, *waits.lines) if conclusion else waits.lines
    if answer.replaced:
        old = answer.replaced.sentence
        lines = (f"{lines[0]}; {old}" if lines else old, *lines[1:])
    steps = tuple(Step(c.run, c.look, c.effect, c.tool) for c in answer.commands)
    reason = Reason(conclusion, answer.child, answer.replaced, waits.processes, finding.container)
    finding = by_cause.told(finding, reason)
    advice = finding.advice
    if beyond_select(waits, descriptors := _descriptors(finding)):
        reach = (
            f"select() cannot watch descriptors from {FD_SETSIZE:,} on: {descriptors:,} are open"
        )
        lines = (f"{lines[0]}; {reach}", *lines[1:])
        advice = (_USE_POLL, *advice)
    return finding._replace(waits=lines, steps=steps, advice=advice)


_USE_POLL: Final = Advice(
    "Let the program wait by poll() or epoll",
    "a higher limit of descriptors does not help, since select() knows only numbers below "
    f"{FD_SETSIZE:,}; fewer connections in each process do",
)


def _descriptors(finding: Finding) -> int | None:
    """Return how many descriptors the process of a finding has, None unseen or of several."""
    found = finding.evidence.get(facts.FDS)
    return found if isinstance(found, int) and len(finding.pids) == 1 else None
