"""Why the processes of a finding do not serve its sockets, from what their threads wait for.

Pure.  A thread that was waiting at one instant is only waiting: nothing is called stuck that had
moved at the second look, and no thread in an event loop ever is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from twdiag.analysis.upstreams import described
from twdiag.model.findings import Confidence
from twdiag.model.waits import (
    Act,
    Cause,
    Conclusion,
    End,
    EndRole,
    FdKind,
    ThreadWait,
    WaitGroup,
    Waits,
)
from twdiag.tcp import State
from twdiag.wording import count, endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from twdiag.analysis.inherited import Inherited
    from twdiag.analysis.upstreams import Names
    from twdiag.model.waits import Descriptor, ProcessWaits

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


class Row(Protocol):
    """A socket, as census.table.Socket and sources.live.endpoints.Endpoint have it."""

    @property
    def state(self) -> State:
        """Its TCP state."""

    @property
    def local_address(self) -> str:
        """Its own address, v4-mapped ones folded."""

    @property
    def local_port(self) -> int:
        """Its own port."""

    @property
    def remote_address(self) -> str:
        """The other end's address."""

    @property
    def remote_port(self) -> int:
        """The other end's port."""

    @property
    def recv_q(self) -> int:
        """Bytes unread, the FIN counted as one (KERNEL A)."""


class _Seen(NamedTuple):
    """A thread and the end it waits for."""

    thread: ThreadWait
    end: End | None

    @property
    def still(self) -> bool:
        return self.thread.still is True

    @property
    def upstream(self) -> bool:
        return self.end is not None and self.end.role is EndRole.UPSTREAM


@dataclass(frozen=True)
class _Case:
    """What is judged: the finding's sockets, the threads, who watches which socket."""

    processes: Sequence[ProcessWaits]
    concerned: Mapping[int, Row]
    names: Names
    threads: list[_Seen] = field(default_factory=list)
    watched: frozenset[int] = frozenset()
    parked: frozenset[int] = frozenset()
    watching_known: bool = False

    @property
    def listens(self) -> bool:
        """Whether the finding is about listeners: who should call accept()?"""
        return any(row.state is State.LISTEN for row in self.concerned.values())

    @property
    def unwatched(self) -> int:
        return len(self.concerned.keys() - self.watched)

    @property
    def drained(self) -> bool:
        """Whether the program has read all there is: of the FIN it knows."""
        return all(row.recv_q == 0 for row in self.concerned.values())

    def doing(self, *acts: Act) -> list[_Seen]:
        """Return the threads that had not moved from one of these acts."""
        return [seen for seen in self.threads if seen.still and seen.thread.act in acts]

    @property
    def upstream(self) -> list[_Seen]:
        return [seen for seen in self.threads if seen.still and seen.upstream]

    @property
    def workers(self) -> list[_Seen]:
        """The threads that could be at work on a connection.

        A thread in futex() counts beside ones that wait for an upstream only where it is of the
        same pool, by its name: a JVM has a dozen of its own that sleep there all their lives.
        """
        pools = {_pool(seen.thread.name) for seen in self.upstream}
        return [
            seen
            for seen in self.threads
            if _serves_one(seen)
            or (seen.thread.act in _WORK and not _idles(seen))
            or (seen.thread.act is Act.FUTEX and (not pools or _pool(seen.thread.name) in pools))
        ]

    @property
    def loops(self) -> list[_Seen]:
        """The threads that wait in an event loop, and so for whatever comes."""
        return [
            s
            for s in self.threads
            if s.thread.act is Act.POLL
            and not _serves_one(s)
            and any(target.kind in (FdKind.SOCKET, FdKind.EPOLL) for target in s.thread.targets)
        ]


_WORK: Final = frozenset(
    {
        Act.RUN,
        Act.READ,
        Act.WRITE,
        Act.CONNECT,
        Act.MUTEX,
        Act.CHILD,
        Act.DISK,
        Act.OTHER,
    }
)


def _pool(name: str) -> str:
    """Return the part of a thread's name that the workers of a pool share."""
    return name.rstrip("0123456789")


def _serves_one(seen: _Seen) -> bool:
    """Say whether a thread waits for one connection, be it in poll() for the sake of a timeout."""
    return seen.end is not None and seen.end.role in (EndRole.UPSTREAM, EndRole.CLIENT)


def _idles(seen: _Seen) -> bool:
    """Say whether a thread waits for another one through a pipe or socket: for work, mostly."""
    return seen.end is not None and seen.end.role is EndRole.LOCAL


def tell_waits(
    processes: Sequence[ProcessWaits],
    concerned: Mapping[int, Row],
    sockets: Mapping[int, Row],
    names: Names,
    inherited: Sequence[Inherited] = (),
) -> Waits:
    """Return what the processes of a finding wait for, in groups, in words, and why.

    `concerned` are the finding's sockets by inode (CLOSE_WAITs, idle ones, or the listeners of a
    full queue), `sockets` those that threads wait for (sources.live.waits.wanted_inodes());
    `inherited` tells of children that hold some of them by accident (tell_inherited()).
    """
    case = _case(processes, concerned, sockets, names)
    child = inherited[0] if inherited and 2 * inherited[0].sockets > len(concerned) else None
    groups = _groups(case.threads)
    known = case.watching_known
    return Waits(
        processes=len(processes),
        threads=len(case.threads),
        groups=groups,
        sockets=len(concerned),
        watched=len(case.watched) if known else None,
        parked=len(case.parked) if known else None,
        conclusion=_by_child(child) if child else _conclude(case) if case.threads else None,
        lines=tuple(_lines(case, groups)),
    )


def _case(
    processes: Sequence[ProcessWaits],
    concerned: Mapping[int, Row],
    sockets: Mapping[int, Row],
    names: Names,
) -> _Case:
    threads = [
        _Seen(thread, _end(thread, concerned, sockets, names))
        for process in processes
        for thread in process.threads
        if thread.state not in "ZX"
    ]
    watched, parked = watched_sockets(processes, concerned)
    known = bool(processes) and not any(p.epolls is None or p.ring or p.denied for p in processes)
    return _Case(processes, concerned, names, threads, watched, parked, known)


def watched_sockets(
    processes: Iterable[ProcessWaits], concerned: Collection[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the sockets that a waiting thread would be told of, and those in a set without one."""
    watched: set[int] = set()
    parked: set[int] = set()
    for process in processes:
        waited = [d for t in process.threads for d in t.targets if t.act in _LOOKING]
        watched.update(d.inode for d in waited if d.inode is not None and d.inode in concerned)
        sets = {d.number for d in waited if d.kind is FdKind.EPOLL}
        for epoll in process.epolls or ():
            inodes = {w.inode for w in epoll.watches if w.armed and w.inode in concerned}
            (watched if epoll.fd in sets else parked).update(i for i in inodes if i is not None)
    return frozenset(watched), frozenset(parked - watched)


_LOOKING: Final = frozenset({Act.READ, Act.POLL, Act.ACCEPT})


# Which end a thread waits for.


def _end(
    thread: ThreadWait, concerned: Mapping[int, Row], sockets: Mapping[int, Row], names: Names
) -> End | None:
    """Return the end a thread waits for, None where it is none or one of many."""
    targets = [target for target in thread.targets if target.kind is FdKind.SOCKET]
    if thread.act is Act.POLL:
        # One socket, and perhaps a pipe to be woken by: a read with a timeout.  More is a loop.
        return _socket_end(targets[0], concerned, sockets, names) if len(targets) == 1 else None
    if targets:
        return _socket_end(targets[0], concerned, sockets, names)
    return _other_end(thread.targets[0]) if thread.targets else None


def _socket_end(
    target: Descriptor, concerned: Mapping[int, Row], sockets: Mapping[int, Row], names: Names
) -> End:
    inode = target.inode or 0
    row = concerned.get(inode) or sockets.get(inode)
    if row is None:
        return End(EndRole.LOCAL, None, None, "a socket that no TCP table shows")
    if row.state is State.LISTEN:
        return End(EndRole.LISTENER, row.local_address, row.local_port, "")
    if inode in concerned:
        return End(EndRole.PEER, None, None, "")
    if names.serves(row.local_address, row.local_port):
        return End(EndRole.CLIENT, None, None, "")
    name = names.of(row.remote_address, row.remote_port)
    return End(EndRole.UPSTREAM, row.remote_address, row.remote_port, name)


def _other_end(target: Descriptor) -> End | None:
    if target.kind is FdKind.EPOLL:
        return None
    if target.kind in (FdKind.FILE, FdKind.DEVICE):
        return End(EndRole.LOCAL, None, None, visible(target.name))
    return End(EndRole.LOCAL, None, None, f"a {target.kind.value}")


# What the threads do, in groups and in words.


def _groups(threads: Iterable[_Seen]) -> tuple[WaitGroup, ...]:
    kinds: dict[tuple[Act, str, End | None], list[ThreadWait]] = {}
    for seen in threads:
        kinds.setdefault((seen.thread.act, _call(seen), seen.end), []).append(seen.thread)
    groups = [
        WaitGroup(len(members), act, call, end, _still(members))
        for (act, call, end), members in kinds.items()
    ]
    return tuple(sorted(groups, key=lambda group: (_rank(group), -group.threads)))


def _rank(group: WaitGroup) -> int:
    """Return how much a group tells: an upstream most, what idle threads do least."""
    if group.end is not None and group.end.role is EndRole.UPSTREAM:
        return 0
    local = group.end is not None and group.end.role is EndRole.LOCAL
    return 2 if local or group.act in (Act.FUTEX, Act.SLEEP, Act.SIGNAL, Act.UNSEEN) else 1


def _still(members: Iterable[ThreadWait]) -> int | None:
    flags = [thread.still for thread in members]
    return None if None in flags else sum(map(bool, flags))


def _call(seen: _Seen) -> str:
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
    Act.SLEEP: "asleep (nanosleep)",
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


def end_text(end: End) -> str:
    """Return which end it is: an upstream by address and name, else its part."""
    if end.role is EndRole.PEER:
        return "the other end of these sockets"
    if end.role is EndRole.CLIENT:
        return "clients"
    if end.address is None or end.port is None:
        return end.name
    return described(end.address, end.port, end.name)


def _lines(case: _Case, groups: Sequence[WaitGroup]) -> Iterable[str]:
    if groups:
        yield _threads_line(len(case.threads), groups)
    if case.watching_known and case.concerned:
        yield _watch_line(case)


def _threads_line(total: int, groups: Sequence[WaitGroup]) -> str:
    """Return "3 of 4 threads in recv() from 10.0.0.5:5432 (postgres), 1 in a lock, all still"."""
    shown = groups[:_MOST_GROUPS]
    first = shown[0]
    if total == 1:
        words = [f"the only thread {phrase(first)}"]
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


def _watch_line(case: _Case) -> str:
    if case.listens:
        return _accept_line(case)
    total, watched = len(case.concerned), len(case.watched)
    these = "this socket" if total == 1 else f"these {total:,} sockets"
    if case.parked:
        return f"an epoll set watches {len(case.parked):,} of {these}, but no thread waits in it"
    if not watched:
        return f"nobody watches or reads {these}"
    if watched == total:
        return f"{these} {'is' if total == 1 else 'are'} watched or read"
    return f"{watched:,} of {these} watched or read; nobody looks at the other {total - watched:,}"


def _accept_line(case: _Case) -> str:
    row = next(row for row in case.concerned.values() if row.state is State.LISTEN)
    place = endpoint(row.local_address, row.local_port)
    if case.watched:
        return f"a thread waits to accept on {place}"
    if case.parked:
        return f"an epoll set watches {place}, but no thread waits in it: nobody calls accept()"
    return f"nobody calls accept() on {place}"


# Why the sockets are not served.


def _conclude(case: _Case) -> Conclusion | None:
    halted = _halted(case)
    if halted or not case.concerned:
        return halted
    if case.watching_known and not case.unwatched:
        return _waiting_for_peers(case)  # a thread waits that will be told: nothing is stuck
    if case.listens and case.watched:
        return None
    return _stuck(case) or (_not_accepting(case) if case.listens else _unserved(case))


def _by_child(child: Inherited) -> Conclusion:
    return Conclusion(Cause.INHERITED, child.confidence, child.sentence)


def _halted(case: _Case) -> Conclusion | None:
    """Say where whole processes do not run at all."""
    for process in case.processes:
        acts = {thread.act for thread in process.threads}
        some = "" if len(case.processes) == 1 else f", one of {len(case.processes)} processes,"
        sure = Confidence.OBSERVED if not some else Confidence.INFERRED
        who = f"pid {process.pid}{some}"
        if acts and acts <= {Act.TRACED, Act.STOPPED}:
            if process.tracer:
                text = f"{who} is held by a debugger, pid {process.tracer}"
                return Conclusion(Cause.TRACED, sure, text)
            text = f"{who} is stopped by a signal and does nothing until SIGCONT"
            return Conclusion(Cause.STOPPED, sure, text)
        if process.frozen:
            text = f"{who} is frozen with its cgroup (docker pause, systemctl freeze)"
            return Conclusion(Cause.FROZEN, sure, text)
    return None


def _waiting_for_peers(case: _Case) -> Conclusion | None:
    """Say where threads wait in recv() for the very ends the finding is about."""
    readers = [
        seen
        for seen in case.doing(Act.READ)
        if seen.end is not None and seen.end.role is EndRole.PEER
    ]
    if 2 * len(readers) < len(case.concerned) or not readers:
        return None
    text = f"{count(len(readers), 'thread')} in recv() for the other end itself, without a timeout"
    return Conclusion(Cause.PEER, Confidence.OBSERVED, text, readers[0].end)


def _stuck(case: _Case) -> Conclusion | None:
    """Say where the threads that should serve the sockets wait for something else."""
    return _upstream(case) or _disk(case) or _mutex(case) or _busy(case) or _clients(case)


def _upstream(case: _Case) -> Conclusion | None:
    waiting, workers, free = case.upstream, case.workers, bool(case.loops) or _accepts(case)
    if not waiting:
        return None
    locked = sum(s.still and s.thread.act in (Act.FUTEX, Act.MUTEX) for s in workers)
    most = 2 * len(waiting) > len(workers)
    # Without a loop the others may wait for a lock that one of these holds.
    if not most and (free or len(waiting) + locked < len(workers)):
        return None
    # A single thread beside a loop can be a helper that is meant to wait; and one that blocks has
    # one connection in hand, so that further drained ones are not in anybody's.
    if free and len(waiting) < min(2, case.unwatched):
        return None
    if free and not case.listens and case.drained and case.unwatched > len(waiting):
        return None
    sure = len(waiting) == len(workers) and not free
    end = Counter(seen.end for seen in waiting).most_common(1)[0][0]
    where = end_text(end) if end else "an upstream"
    text = f"{_share(len(waiting), len(workers))} for the upstream {where}"
    text += f", {locked} for a lock" if locked else ""
    return Conclusion(Cause.UPSTREAM, _sure(sure), f"{text}: {_left(case)}", end)


def _accepts(case: _Case) -> bool:
    return any(seen.thread.act is Act.ACCEPT for seen in case.threads)


def _disk(case: _Case) -> Conclusion | None:
    disk = case.doing(Act.DISK)
    if not disk or case.loops or 2 * len(disk) <= len(case.workers):
        return None
    channel = next((seen.thread.channel for seen in disk if seen.thread.channel), "")
    text = f"{_share(len(disk), len(case.workers))} in disk sleep"
    text += f" ({visible(channel)})" if channel else ""
    return Conclusion(Cause.DISK, Confidence.INFERRED, f"{text}: a disk or NFS does not answer")


def _mutex(case: _Case) -> Conclusion | None:
    mutex = case.doing(Act.MUTEX)
    if not mutex or 2 * len(mutex) <= len(case.workers):
        return None
    text = f"{_share(len(mutex), len(case.workers))} for a lock: {_left(case)}"
    return Conclusion(Cause.LOCKED, Confidence.INFERRED, text)


def _busy(case: _Case) -> Conclusion | None:
    running = case.doing(Act.RUN)
    if not running or case.loops or 2 * len(running) <= len(case.workers):
        return None
    text = f"{count(len(running), 'thread')} of {len(case.workers)} running on a CPU all the time"
    return Conclusion(Cause.BUSY, Confidence.INFERRED, f"{text}: {_left(case)}")


def _clients(case: _Case) -> Conclusion | None:
    """Say where each worker holds on to a client that sends nothing (keep-alive, a slow client)."""
    waiting = [
        seen
        for seen in case.doing(Act.READ, Act.WRITE, Act.POLL)
        if seen.end is not None and seen.end.role is EndRole.CLIENT
    ]
    if not waiting or case.loops or 2 * len(waiting) <= len(case.workers):
        return None
    text = f"{_share(len(waiting), len(case.workers))} for clients that send nothing"
    return Conclusion(Cause.BUSY, Confidence.INFERRED, f"{text}: {_left(case)}", waiting[0].end)


def _locked(case: _Case) -> Conclusion | None:
    """Say where all workers wait for one another, so far as the kernel can tell."""
    waiting = case.doing(Act.FUTEX, Act.MUTEX)
    if not waiting or case.loops or 2 * len(waiting) <= len(case.workers):
        return None
    places = {seen.thread.futex for seen in waiting}
    same = "the same lock" if len(places) == 1 and len(waiting) > 1 else "a lock"
    text = f"{_share(len(waiting), len(case.workers))} for {same} or for work: {_left(case)}"
    return Conclusion(Cause.LOCKED, Confidence.INFERRED, text)


def _not_accepting(case: _Case) -> Conclusion | None:
    locked = _locked(case)
    if locked or not case.watching_known:
        return locked
    return Conclusion(Cause.NOT_ACCEPTING, Confidence.OBSERVED, _accept_line(case))


def _unserved(case: _Case) -> Conclusion | None:
    """Say what becomes of sockets that nobody watches while no thread is stuck."""
    locked = _locked(case)
    # A thread that blocks has one connection in hand: of more drained ones, nobody thinks.
    if locked and not (case.drained and case.unwatched > len(case.workers)):
        return locked
    if not case.watching_known or case.parked:
        return None
    if case.loops or case.drained:
        return _forgotten(case)
    others = [group for group in _groups(case.threads) if group.act is not Act.UNSEEN]
    if not others or not all(seen.still for seen in case.threads):
        return None
    first = others[0]
    who = "its only thread is" if len(case.threads) == 1 else f"{first.threads} of its threads are"
    text = f"{_left(case)}: {who} {phrase(first)}"
    return Conclusion(Cause.ELSEWHERE, Confidence.INFERRED, text, first.end)


def _forgotten(case: _Case) -> Conclusion | None:
    total, left = len(case.concerned), case.unwatched
    served = any(
        case.names.serves(row.local_address, row.local_port) for row in case.concerned.values()
    )
    what = "forgotten by the program" if served else "idle in a pool of the program, or forgotten"
    futex = len(case.doing(Act.FUTEX))
    if futex and not case.drained:
        what += f", or in the hands of the {count(futex, 'thread')} in futex()"
    if left == total:
        which = f"any of {total:,} sockets" if total > 1 else "the only socket"
    else:
        which = f"{left:,} of {total:,} sockets"
    text = f"nobody watches {which}: {what}"
    return Conclusion(Cause.FORGOTTEN, Confidence.INFERRED, text)


def _share(number: int, total: int) -> str:
    """Return "all 3 workers wait" or "3 of 4 workers wait"."""
    if total == 1:
        return "the only worker waits"
    return f"all {total} workers wait" if number == total else f"{number} of {total} workers wait"


def _left(case: _Case) -> str:
    return "nobody calls accept()" if case.listens else "nobody reads these sockets"


def _sure(observed: bool) -> Confidence:
    return Confidence.OBSERVED if observed else Confidence.INFERRED
