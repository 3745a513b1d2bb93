"""What to do about a finding once it is known why its process does not serve its sockets.

A rule sees sockets and advises what helps most often.  What the threads were seen to do can make
that wrong: no stack dump shows what a helper inherited, and nobody restarts a service because of an
old worker.  Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model import facts
from twdiag.model.findings import Advice
from twdiag.model.waits import HALTED, Cause, EndRole
from twdiag.rules import (
    accept_queue_full,
    close_wait_leak,
    close_wait_never_accepted,
    close_wait_unread,
    fd_limit_near,
    idle_established_leak,
    peer_never_closes,
    sockets_nobody_sees,
)
from twdiag.rules.subjects import known_advice
from twdiag.wording import command_of, endpoint, quoted

if TYPE_CHECKING:
    from twdiag.analysis.inherited import Inherited
    from twdiag.analysis.successors import Replaced
    from twdiag.model.findings import Finding
    from twdiag.model.namespaces import Container
    from twdiag.model.waits import Conclusion, FarEnd

CONCERNED: Final = frozenset(
    {
        accept_queue_full.NAME,
        close_wait_leak.NAME,
        close_wait_never_accepted.NAME,
        close_wait_unread.NAME,
        fd_limit_near.NAME,
        idle_established_leak.NAME,
        peer_never_closes.NAME,
        sockets_nobody_sees.NAME,
    }
)
"""Rules whose findings blame a process: it does something else instead of closing or accepting."""

# Where the advice stands that asks what the process does: an answer takes its place.
_QUESTION: Final = {
    accept_queue_full.NAME: 0,
    close_wait_leak.NAME: 0,
    close_wait_never_accepted.NAME: 0,
    close_wait_unread.NAME: 0,
}
_NOT_STUCK: Final = frozenset({*HALTED, Cause.INHERITED, Cause.FORGOTTEN, Cause.CONFIGURED})


class Reason(NamedTuple):
    """Why sockets are not served, as far as it was seen.

    `child` inherited most of them, `replaced` is set where their process is an old worker.
    `processes` is how many were looked at: what was seen of one need not hold for the others.
    `container` is what runs the process, None without one.
    """

    conclusion: Conclusion | None
    child: Inherited | None = None
    replaced: Replaced | None = None
    processes: int = 1
    container: Container | None = None

    @property
    def cause(self) -> Cause | None:
        """The cause that was concluded."""
        return self.conclusion.cause if self.conclusion else None


def told(finding: Finding, reason: Reason) -> Finding:
    """Return a finding whose advice, and why it matters, agree with the reason."""
    if finding.rule == close_wait_unread.NAME and (reason.cause in _NOT_STUCK or reason.replaced):
        finding = finding._replace(why=close_wait_unread.without_stuck(finding.why))
    return finding._replace(advice=_advised(finding, reason))


def _advised(finding: Finding, reason: Reason) -> tuple[Advice, ...]:
    instead = _instead(finding, reason)
    if instead:
        # Of several processes, the others need not share the reason of this one.
        others = finding.advice if reason.processes > 1 else _still_true(finding)
        return (*instead, *_answer(reason), *others)
    advice, answer = _reworded(finding, reason), _answer(reason)
    if answer and finding.rule in _QUESTION:
        advice = (*_with_check(answer, advice[0]), *advice[1:])
    elif answer:
        advice = (*answer, *advice)
    if reason.child:
        advice = (*advice, *_of_helper(reason.child, finding.rule))
    return advice


def _reworded(finding: Finding, reason: Reason) -> tuple[Advice, ...]:
    """Return a rule's advice without the words that the cause has answered."""
    if finding.rule == accept_queue_full.NAME and reason.conclusion:
        return accept_queue_full.not_accepting(finding.advice)
    if reason.cause is Cause.FORGOTTEN:
        return _of_forgotten(finding)
    if reason.cause in (Cause.LOCKED, Cause.BUSY, Cause.ELSEWHERE):
        return _of_stuck_leak(finding)
    return finding.advice


def _instead(finding: Finding, reason: Reason) -> tuple[Advice, ...]:
    """Return the advice before which all that a rule knows is void, () where it still helps."""
    cause = reason.cause
    if cause in HALTED:
        return _of_halted(reason)
    if cause is Cause.INHERITED and reason.child and reason.child.is_alone:
        return _of_helper(reason.child, finding.rule)
    if reason.replaced:
        return _of_old_worker(finding, reason.replaced)
    if cause is Cause.DISK:
        return (_DISK,)
    if cause is Cause.CONFIGURED:
        return _of_configured(finding, reason)
    return ()


def _still_true(finding: Finding) -> tuple[Advice, ...]:
    """Return what a rule advises about the other end: nothing that happens here changes that."""
    return finding.advice[:1] if finding.rule == peer_never_closes.NAME else ()


_DISK: Final = Advice(
    "Get the disk or the NFS server to answer again",
    "a process in disk sleep heeds no signal before that, so that a restart waits for it too",
    verify="what the kernel says of it: dmesg | grep -E 'blocked for more than|nfs: server'",
)
_AGAIN: Final = "the finding is gone: twdiag diagnose"


def _of_halted(reason: Reason) -> tuple[Advice, ...]:
    if reason.cause is Cause.TRACED:
        return (Advice("Let whoever debugs it detach, or end the debugger", verify=_AGAIN),)
    if reason.cause is Cause.FROZEN:
        how = _thawing(reason.container)
        return (Advice("Ask who paused it, then let it go on", how, verify=_AGAIN),)
    return (Advice("Ask who stopped it, then let it go on", verify=_AGAIN),)


def _thawing(container: Container | None) -> str:
    """Return the command that lets a paused container or unit go on, in general where unknown."""
    if container and container.runtime in ("docker", "podman"):
        return command_of((container.runtime, "unpause", container.label))
    if container and container.is_unit:
        return command_of(("systemctl", "thaw", container.label))
    return "with what paused it, be it docker unpause or systemctl thaw"


def _of_helper(child: Inherited, rule: str) -> tuple[Advice, ...]:
    """Return what to do about a child that holds sockets it knows nothing of."""
    name = quoted(child.parent_name)
    parent = f"{name} (pid {child.parent})" if child.parent_name else "its parent"
    end = Advice(
        f"End or restart the helper {quoted(child.name)} (kill {child.child})",
        cost="what it does for itself ends too: see first what it is",
        verify=f"its sockets go: twdiag sockets --rule {rule}",
    )
    if child.by_exec is False:
        mend = Advice(
            "Let the child close what it does not use, right after fork()",
            "close-on-exec acts at exec() alone; Python's multiprocessing: spawn or forkserver",
        )
    else:
        mend = Advice(
            f"Let {parent} open its sockets with close-on-exec set",
            "SOCK_CLOEXEC in socket() and accept4(); close_fds=True in Python's subprocess, its "
            "default; Go, Java and Node.js do it by themselves",
            "" if child.by_exec else "a child that forks without exec() has to close them itself",
        )
    return end, mend


def _of_old_worker(finding: Finding, old: Replaced) -> tuple[Advice, ...]:
    """Return what ends an old worker now, and what ends the next one in time."""
    end = Advice(
        f"End the old worker {quoted(old.name)} (kill {old.pid})",
        f"new connections go to pid {old.heir} already; kill -KILL {old.pid} if it ignores that",
        "connections that still live in it end too",
        _own_check(finding),
    )
    limits = known_advice(old.name, "server", "reload")
    if limits:
        return end, *limits
    limit = Advice(
        "Give old workers a time limit after a reload", "what is not closed by then is closed then"
    )
    if finding.rule not in (close_wait_leak.NAME, close_wait_unread.NAME):
        return end, limit
    return end, limit, _of_forgotten(finding)[0]


def _of_configured(finding: Finding, reason: Reason) -> tuple[Advice, ...]:
    """Return what the program's settings can change: it keeps these sockets by design."""
    sentence = reason.conclusion.sentence if reason.conclusion else ""
    known = [a for a in _program_advice(finding) if _names_program(a, sentence)]
    if finding.rule == fd_limit_near.NAME and known:
        return finding.advice[0], *known
    return tuple(known)


def _program_advice(finding: Finding) -> tuple[Advice, ...]:
    name = str(getattr(finding.subject, "name", ""))
    return finding.advice + known_advice(name, "server", "close-wait")


def _names_program(advice: Advice, sentence: str) -> bool:
    """Say whether advice is about the program that a sentence begins with ("HAProxy: ...")."""
    title, colon, _ = advice.do.partition(": ")
    return bool(colon) and sentence.startswith(f"{title} ")


def _of_forgotten(finding: Finding) -> tuple[Advice, ...]:
    """Return the advice where the process is not stuck: no stack shows what it has lost."""
    if finding.rule != close_wait_unread.NAME:
        return finding.advice
    first, *others = finding.advice
    served = bool(finding.evidence.get(facts.SERVER_SIDE))
    return (close_wait_unread.unwatched(first, served=served), *others)


def _of_stuck_leak(finding: Finding) -> tuple[Advice, ...]:
    """Return the advice where threads do something else before they could forget to close."""
    if finding.rule != close_wait_leak.NAME:
        return finding.advice
    first, *others = finding.advice
    return (close_wait_leak.elsewhere(first), *others)


def _answer(reason: Reason) -> tuple[Advice, ...]:
    """Return what to do where the conclusion names what the threads wait for, () elsewhere."""
    conclusion, cause = reason.conclusion, reason.cause
    end = conclusion.end if conclusion else None
    if cause is Cause.UPSTREAM and end is not None:
        return (
            Advice(f"See why the upstream does not answer: {_place(end)}"),
            Advice("Give the calls to it a timeout", "so that one slow upstream holds no worker"),
        )
    if cause is Cause.CHILD:
        return (Advice("See why the child process does not end, and give it a time limit"),)
    if cause is Cause.BUSY and end is not None and end.role is EndRole.CLIENT:
        return (
            Advice(
                "Give clients that send nothing a timeout, or add workers",
                "each of them holds a worker: a keep-alive time, a time to read a request in",
            ),
        )
    return ()


def _place(end: FarEnd) -> str:
    """Return "postgres at 10.0.0.5:5432", or which Unix socket it is."""
    if end.address is None or end.port is None:
        return end.name
    place = endpoint(end.address, end.port)
    return f"{end.name} at {place}" if end.name else place


def _with_check(answer: tuple[Advice, ...], question: Advice) -> tuple[Advice, ...]:
    """Return an answer with what shows that the question is settled."""
    return (*answer[:-1], answer[-1]._replace(verify=question.verify))


def _own_check(finding: Finding) -> str:
    """Return what shows that a finding's sockets have gone."""
    if finding.rule in (fd_limit_near.NAME, sockets_nobody_sees.NAME):
        return finding.advice[0].verify
    return f"its sockets go: twdiag sockets --rule {finding.rule}"
