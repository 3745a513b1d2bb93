"""Why the processes of a finding do not serve its sockets, from what their threads wait for.  Pure.

A case (case.py) has the threads with the ends that they wait for (ends.py); words.py tells what
they do, causes.py concludes why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.inherited import main_child
from twdiag.analysis.waits.case import case_of
from twdiag.analysis.waits.causes import conclude
from twdiag.analysis.waits.words import groups_of, lines_of, telling_pid
from twdiag.model.waits import Cause, Conclusion, Waits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twdiag.analysis.inherited import Inherited
    from twdiag.analysis.upstreams import EndNames
    from twdiag.model.sockets import Socket
    from twdiag.model.waits import ProcessWaits


def tell_waits(
    processes: Sequence[ProcessWaits],
    concerned: Mapping[int, Socket],
    sockets: Mapping[int, Socket],
    names: EndNames,
    inherited: Sequence[Inherited] = (),
) -> Waits:
    """Return what the processes of a finding wait for, in groups, in words, and why.

    `concerned` are the finding's sockets by inode (CLOSE_WAITs, idle ones, or the listeners of a
    full queue), `sockets` those that threads wait for
    (sources.live.processes.waits.wanted_inodes()); `inherited` tells of children that hold some of
    them by accident (tell_inherited()).
    """
    child = main_child(inherited, len(concerned))
    if child and not child.is_alone:  # what the parent does instead of closing is the cause
        processes = [process for process in processes if process.pid != child.child]
    case = case_of(processes, concerned, sockets, names)
    conclusion = conclude(case) if case.threads else None
    if child and (child.is_alone or conclusion is None):
        conclusion = _by_child(child)
    groups = groups_of(case.threads)
    known = case.watching_known
    lines = list(lines_of(case, groups))
    if child and conclusion and conclusion.cause is not Cause.INHERITED:
        lines.append(child.sentence)
    return Waits(
        pid=(conclusion and conclusion.pid) or telling_pid(case.threads),
        processes=len(processes),
        threads=len(case.threads),
        groups=groups,
        sockets=len(concerned),
        watched=len(case.watched) if known else None,
        parked=len(case.parked) if known else None,
        conclusion=conclusion,
        lines=tuple(lines),
    )


def _by_child(child: Inherited) -> Conclusion:
    return Conclusion(Cause.INHERITED, child.confidence, child.sentence, pid=child.child)
