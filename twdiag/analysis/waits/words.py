"""What the threads of a case do, in groups and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.analysis.waits.case import is_idle
from twdiag.analysis.waits.ends import end_text
from twdiag.model.waits import Act, EndRole, FdKind, WaitGroup
from twdiag.tcp import State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twdiag.analysis.waits.case import Case, SeenThread
    from twdiag.model.waits import FarEnd

_MOST_GROUPS: Final = 3

_CALLS: Final = {
    "read": "read",
    "readv": "read",
    "recvfrom": "recv",
    "recvmsg": "recv",
    "recvmmsg": "recv",
    "write": "write",
    "writev": "write",
    "sendto": "send",
    "sendmsg": "send",
    "sendmmsg": "send",
    "accept4": "accept",
    "ppoll": "poll",
    "pselect6": "select",
    "epoll_pwait": "epoll_wait",
    "epoll_pwait2": "epoll_wait",
    "clock_nanosleep": "nanosleep",
    "futex_wait": "futex",
    "futex_waitv": "futex",
}
_OF_SOCKETS: Final = {"read": "recv", "write": "send"}
_WITHOUT_CALL: Final = {Act.READ: "recv", Act.WRITE: "send", Act.CONNECT: "connect"}


def groups_of(threads: Iterable[SeenThread]) -> tuple[WaitGroup, ...]:
    """Return threads that do the same in groups, the one that tells most first."""
    return tuple(group for group, _ in _with_members(threads))


def telling_pid(threads: Iterable[SeenThread]) -> int | None:
    """Return the process of the group that tells most, None without one."""
    return next((members[0].pid for _, members in _with_members(threads)), None)


def _with_members(threads: Iterable[SeenThread]) -> list[tuple[WaitGroup, list[SeenThread]]]:
    kinds: dict[tuple[Act, str, FarEnd | None], list[SeenThread]] = {}
    for seen in threads:
        kinds.setdefault((seen.thread.act, _call(seen), seen.end), []).append(seen)
    groups = [
        (WaitGroup(len(members), act, call, end, _still(members)), members)
        for (act, call, end), members in kinds.items()
    ]
    return sorted(groups, key=lambda one: (_rank(one[1][0]), -one[0].threads))


def _rank(seen: SeenThread) -> int:
    """Return how much a thread tells: one that waits for an upstream most, an idle one least."""
    if seen.upstream:
        return 0
    local = seen.end is not None and seen.end.role is EndRole.LOCAL
    return 2 if local or is_idle(seen.thread) or seen.thread.act is Act.UNSEEN else 1


def _still(members: Iterable[SeenThread]) -> int | None:
    flags = [seen.thread.still for seen in members]
    return None if None in flags else sum(map(bool, flags))


def _call(seen: SeenThread) -> str:
    """Return the name of a thread's call as a programmer writes it, "" where it is in none."""
    thread = seen.thread
    call = _CALLS.get(thread.call or "", thread.call or "") or _WITHOUT_CALL.get(thread.act, "")
    is_socket = any(target.kind is FdKind.SOCKET for target in thread.targets)
    return _OF_SOCKETS.get(call, call) if is_socket else call


def phrase(group: WaitGroup) -> str:
    """Return what a group of threads does: "in recv() from 10.0.0.5:5432 (postgres)"."""
    fixed = _PHRASES.get(group.act)
    if fixed:
        return fixed
    call = group.call if group.call.startswith("call ") else f"{group.call}()"
    if not group.call:
        return "in a call that is not known"
    where = f"in {call}"
    if group.end is None:
        return where
    return f"{where} {_PREPOSITIONS.get(group.act, 'on')} {end_text(group.end)}"


_PHRASES: Final = {
    Act.RUN: "running",
    Act.FUTEX: "in futex() (a lock, or idle)",
    Act.MUTEX: "in a lock",
    Act.CHILD: "waiting for a child process",
    Act.SLEEP: "asleep",
    Act.SIGNAL: "waiting for a signal",
    Act.DISK: "in disk sleep",
    Act.STOPPED: "stopped",
    Act.TRACED: "held by a debugger",
    Act.UNSEEN: "waiting, for what is not visible",
}
_PREPOSITIONS: Final = {
    Act.READ: "from",
    Act.WRITE: "to",
    Act.CONNECT: "to",
    Act.POLL: "for",
}


def lines_of(case: Case, groups: Sequence[WaitGroup]) -> Iterable[str]:
    """Yield what the threads do, and who looks at the sockets, each in one sentence."""
    if groups:
        alone = "the program's only thread" if case.runtime_threads else "the only thread"
        yield _threads_line(len(case.threads), groups, alone)
    if case.watching_known and case.concerned:
        yield _watch_line(case)


def _threads_line(total: int, groups: Sequence[WaitGroup], alone: str) -> str:
    """Return "3 of 4 threads in recv() from 10.0.0.5:5432 (postgres), 1 in a lock, all still"."""
    shown = groups[:_MOST_GROUPS]
    first = shown[0]
    if total == 1:
        words = [f"{alone} {phrase(first)}"]
    elif first.threads == total:
        words = [f"all {total} threads {phrase(first)}"]
    else:
        words = [f"{first.threads} of {total} threads {phrase(first)}"]
    words += [f"{group.threads} {phrase(group)}" for group in shown[1:]]
    rest = sum(group.threads for group in groups[_MOST_GROUPS:])
    words += [f"{rest} elsewhere"] if rest else []
    return ", ".join(words) + _still_words(groups)


def _still_words(groups: Iterable[WaitGroup]) -> str:
    flags = [(group.still, group.threads) for group in groups]
    if any(still is None for still, _ in flags):
        return ""
    moved = sum(threads - (still or 0) for still, threads in flags)
    return f"; {moved} moved within 0.1 s" if moved else "; still so 0.1 s later"


def _watch_line(case: Case) -> str:
    if case.listens:
        return accept_line(case)
    total, watched = len(case.concerned), len(case.watched)
    these = "this socket" if total == 1 else f"these {total:,} sockets"
    if watched < total and not case.settled:
        return f"{watched:,} of {these} watched or read at that moment"
    if case.parked:
        return f"an epoll set watches {len(case.parked):,} of {these}, but no thread waits in it"
    if not watched:
        return f"nobody watches or reads {these}"
    if watched == total:
        return f"{these} {'is' if total == 1 else 'are'} watched or read"
    return f"{watched:,} of {these} watched or read; nobody looks at the other {total - watched:,}"


def accept_line(case: Case) -> str:
    row = next(row for row in case.concerned.values() if row.state is State.LISTEN)
    place = endpoint(row.local_address, row.local_port)
    if case.watched:
        return f"a thread waits to accept on {place}"
    if not case.settled:
        return f"no thread waited to accept on {place} at that moment"
    if case.parked:
        return f"an epoll set watches {place}, but no thread waits in it: nobody calls accept()"
    return f"nobody calls accept() on {place}"
