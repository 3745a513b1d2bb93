"""Add to findings what their processes are doing instead, and the command to run next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from twdiag.analysis.upstreams import Names, parse_hosts
from twdiag.analysis.waits import tell_waits
from twdiag.model.findings import ListenerSubject, Step
from twdiag.rules import (
    accept_queue_full,
    close_wait_leak,
    close_wait_never_accepted,
    close_wait_unread,
    fd_limit_near,
    peer_never_closes,
    sockets_nobody_sees,
)
from twdiag.software.runtimes import next_commands
from twdiag.sources.live.addresses import read_addresses
from twdiag.sources.live.endpoints import read_endpoints
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.runtime import read_runtime
from twdiag.sources.live.waits import read_waits, wanted_inodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.analysis.view import View
    from twdiag.analysis.waits import Row
    from twdiag.model.findings import Finding, Report
    from twdiag.model.waits import ProcessWaits

CONCERNED: Final = frozenset(
    {
        accept_queue_full.NAME,
        close_wait_leak.NAME,
        close_wait_never_accepted.NAME,
        close_wait_unread.NAME,
        fd_limit_near.NAME,
        peer_never_closes.NAME,
        sockets_nobody_sees.NAME,
    }
)
"""Rules whose findings blame a process: it does something else instead of closing or accepting."""

_MOST_PROCESSES: Final = 500


def with_causes(report: Report, view: View, seconds: float = 1.0) -> Report:
    """Return the report with what the processes of its findings wait for.

    Each thread is looked at twice, 0.1 s apart.  What may not be read is a gap.
    """
    concerned = [f for f in report.findings if f.rule in CONCERNED and f.pids]
    if not concerned:
        return report
    pids = list(dict.fromkeys(pid for f in concerned for pid in f.pids))[:_MOST_PROCESSES]
    inodes = {inode for finding in concerned for inode in finding.inodes}
    found, gaps = read_waits(pids, inodes, seconds)
    rows: dict[int, Row] = {s.inode: s for s in view.census.sockets if s.inode}
    rows.update(read_endpoints(wanted_inodes(found) - rows.keys()))
    names = _names(report, view)
    findings = tuple(
        _told(finding, found, rows, names) if finding in concerned else finding
        for finding in report.findings
    )
    return replace(report, findings=findings, gaps=(*report.gaps, *gaps))


def _names(report: Report, view: View) -> Names:
    """Return what is known of addresses: /etc/hosts, and the owners of this host's listeners."""
    listeners = {(listener.address, listener.port): "" for listener in view.listeners}
    for subject in (finding.subject for finding in report.findings):
        if isinstance(subject, ListenerSubject) and subject.processes:
            listeners[subject.address, subject.port] = subject.processes[0].name
    return Names(parse_hosts(read_text("/etc/hosts") or ""), listeners, read_addresses())


def _told(
    finding: Finding,
    found: Mapping[int, ProcessWaits],
    rows: Mapping[int, Row],
    names: Names,
) -> Finding:
    """Return a finding with the waits of its processes and the next command for their runtime."""
    processes = [found[pid] for pid in finding.pids if pid in found]
    if not processes:
        return finding
    sockets = {inode: rows[inode] for inode in finding.inodes if inode in rows}
    waits = tell_waits(processes, sockets, rows, names)
    conclusion = waits.conclusion
    lines = (conclusion.sentence, *waits.lines) if conclusion else waits.lines
    return replace(finding, waits=lines, steps=_steps(finding.pids[0]))


def _steps(pid: int) -> tuple[Step, ...]:
    """Return the commands that show what a process of this runtime does."""
    runtime = read_runtime(pid)
    if runtime is None:
        return ()
    commands = next_commands(runtime.runtime, runtime.place, runtime.symbols)
    return tuple(Step(c.run, c.look, c.effect, c.tool) for c in commands)
