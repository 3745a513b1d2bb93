"""What to type next where a stack of the program would tell nothing: it all lies elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.model.waits import Cause, NextCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twdiag.analysis.inherited import Inherited
    from twdiag.analysis.successors import Replaced
    from twdiag.model.waits import ProcessWaits, Waits

_PROC: Final = "https://docs.kernel.org/filesystems/proc.html"
_SIGNAL: Final = "https://man7.org/linux/man-pages/man7/signal.7.html"


def commands_for(
    waits: Waits, seen: Sequence[ProcessWaits], children: Sequence[Inherited]
) -> tuple[NextCommand, ...]:
    """Return what to run where a stack of the program would tell nothing, () elsewhere."""
    cause = waits.conclusion.cause if waits.conclusion else None
    if cause is Cause.INHERITED:
        return _of_helper(children[0])
    if cause is Cause.CHILD:
        child = next(t.child for p in seen for t in p.threads if p.pid == waits.pid and t.child)
        look = "what the child is, since when it runs, and the kernel function it sleeps in"
        return (_only_reads(f"ps -o pid,etime,wchan:24,args -p {child}", look),)
    if cause is Cause.CONFIGURED:
        look = "the servers that it waits for: those with most of these connections"
        return (_only_reads(f"ss -tnp state established | grep pid={waits.pid},", look),)
    if cause is Cause.DISK:
        # A debugger would wait for the disk too: py-spy and gdb stop the thread first.
        look = "the kernel function each thread sleeps in: nfs_* and rpc_* are NFS, others a disk"
        return (_only_reads(f"grep . /proc/{waits.pid}/task/*/wchan", look),)
    if cause is Cause.TRACED:
        tracer = next(process.tracer for process in seen if process.pid == waits.pid)
        look = "the debugger that holds the process, and whose it is"
        return (_only_reads(f"ps -fp {tracer}", look),)
    if cause is Cause.FROZEN:
        look = "the container or unit that is paused"
        return (_only_reads(f"cat /proc/{waits.pid}/cgroup", look),)
    if cause is Cause.STOPPED:
        look = "the state of the process in /proc/PID/status is no longer T"
        effect = "the process goes on where it was stopped: ask first who stopped it"
        return (NextCommand(f"kill -CONT {waits.pid}", look, effect, "", _SIGNAL),)
    return ()


def _of_helper(helper: Inherited) -> tuple[NextCommand, ...]:
    """Return what to look at before a helper is ended that inherited sockets."""
    both = f"{helper.child},{helper.parent}"
    look = "what the helper is and since when it runs, and the program that started it"
    return (
        _only_reads(f"ps -o pid,ppid,user,etime,args -p {both}", look),
        _only_reads(f"ls -l /proc/{helper.child}/fd", "the descriptors it was not meant to have"),
    )


def of_old_worker(old: Replaced) -> tuple[NextCommand, ...]:
    """Return what to look at before an old worker is ended."""
    look = f"pid {old.pid} runs for longer than {old.heir}, which serves new connections"
    live = "the connections that still live in the old worker: they end with it"
    return (
        _only_reads(f"ps -o pid,ppid,user,etime,args -p {old.pid},{old.heir}", look),
        _only_reads(f"ss -tnp state established | grep pid={old.pid},", live),
    )


def _only_reads(run: str, look: str) -> NextCommand:
    return NextCommand(run, look, "none: it only reads", "", _PROC)
