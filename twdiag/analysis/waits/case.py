"""A case to judge: a finding's sockets, its threads by what they do, who watches which socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.waits.ends import end_of
from twdiag.model.waits import Act, EndRole, FdKind
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from twdiag.analysis.upstreams import EndNames
    from twdiag.model.sockets import Socket
    from twdiag.model.waits import EpollSet, FarEnd, ProcessWaits, ThreadWait


class SeenThread(NamedTuple):
    """A thread, whose it is, and the end it waits for."""

    pid: int
    thread: ThreadWait
    end: FarEnd | None

    @property
    def still(self) -> bool:
        return self.thread.still is True

    @property
    def loops(self) -> bool:
        """Whether it polls a socket, or an epoll set of some."""
        kinds = {target.kind for target in self.thread.targets}
        return self.thread.act is Act.POLL and bool(kinds & _LOOPS)

    @property
    def child(self) -> bool:
        """Whether it waits for one certain child."""
        return self.thread.act is Act.CHILD and (self.thread.child or 0) > 0

    @property
    def upstream(self) -> bool:
        return self.end is not None and self.end.role is EndRole.UPSTREAM


@dataclass(frozen=True)
class Case:
    """What is judged.

    `watched` are the sockets that a waiting thread would be told of, `parked` those in an epoll set
    that no thread waits in; both tell something only where `watching_known`.
    """

    processes: Sequence[ProcessWaits]
    concerned: Mapping[int, Socket]
    names: EndNames
    threads: list[SeenThread] = field(default_factory=list)
    watched: frozenset[int] = frozenset()
    parked: frozenset[int] = frozenset()
    watching_known: bool = False

    @property
    def listens(self) -> bool:
        """Whether the finding is about listeners: who should call accept()?"""
        return any(row.state is State.LISTEN for row in self.concerned.values())

    @property
    def runtime_threads(self) -> bool:
        """Whether there are more threads than the program's: idle ones of its runtime."""
        return sum(process.total for process in self.processes) > len(self.threads)

    @property
    def unwatched(self) -> int:
        return len(self.concerned.keys() - self.watched)

    @property
    def settled(self) -> bool:
        """Whether no thread has moved: what is not served is so, and not for a moment only.

        A thread that polls no socket is a master that looks after its workers now and then.
        """
        threads = (seen for seen in self.threads if seen.thread.act is not Act.POLL or seen.loops)
        return all(seen.still for seen in threads)

    @property
    def drained(self) -> bool:
        """Whether the program has read all there is: of the FIN it knows."""
        return all(row.recv_q == 0 for row in self.concerned.values())

    def doing(self, *acts: Act) -> list[SeenThread]:
        """Return the threads that had not moved from one of these acts."""
        return [seen for seen in self.threads if seen.still and seen.thread.act in acts]

    @property
    def upstream(self) -> list[SeenThread]:
        return [seen for seen in self.threads if seen.still and seen.upstream]

    @property
    def workers(self) -> list[SeenThread]:
        """The threads that could be at work on a connection.

        A thread in futex() counts beside ones that wait for an upstream only where it is of the
        same pool, by its name: a JVM has a dozen of its own that sleep there all their lives.  One
        that waits for any child is a master: its workers are the children.
        """
        pools = {_pool(seen.thread.name) for seen in self.upstream}
        return [
            seen
            for seen in self.threads
            if _serves_one(seen)
            or seen.child
            or (seen.thread.act in _WORK and not _idles(seen))
            or (seen.thread.act is Act.FUTEX and (not pools or _pool(seen.thread.name) in pools))
        ]

    @property
    def loops(self) -> list[SeenThread]:
        """The threads that wait in an event loop, and so for whatever comes."""
        return [seen for seen in self.threads if seen.loops and not _serves_one(seen)]


_WORK: Final = frozenset(
    {
        Act.RUN,
        Act.READ,
        Act.WRITE,
        Act.CONNECT,
        Act.MUTEX,
        Act.DISK,
        Act.OTHER,
    }
)


def _pool(name: str) -> str:
    """Return the part of a thread's name that the workers of a pool share."""
    return name.rstrip("0123456789")


def _serves_one(seen: SeenThread) -> bool:
    """Say whether a thread waits for one connection, be it in poll() for the sake of a timeout."""
    return seen.end is not None and seen.end.role in (EndRole.UPSTREAM, EndRole.CLIENT)


def is_idle(thread: ThreadWait) -> bool:
    """Say whether a thread waits for another thread, a time or a signal: for no socket and no lock.

    An event loop is not idle; one that only its own process can wake is.
    """
    if thread.act is Act.POLL:
        return not any(target.kind in _LOOPS for target in thread.targets)
    return thread.act in (Act.FUTEX, Act.SLEEP, Act.SIGNAL)


_LOOPS: Final = frozenset({FdKind.SOCKET, FdKind.EPOLL})


def _idles(seen: SeenThread) -> bool:
    """Say whether a thread waits for another one through a pipe or socket: for work, mostly."""
    return seen.end is not None and seen.end.role is EndRole.LOCAL


def case_of(
    processes: Sequence[ProcessWaits],
    concerned: Mapping[int, Socket],
    sockets: Mapping[int, Socket],
    names: EndNames,
) -> Case:
    """Return the case of a finding's sockets; zombies have nothing to wait for."""
    threads = [
        SeenThread(process.pid, thread, end_of(thread, concerned, sockets, names))
        for process in processes
        for thread in process.threads
        if thread.state not in "ZX"
    ]
    watched, parked = watched_sockets(processes, concerned)
    known = bool(processes) and all(
        p.epolls is not None and p.whole and not (p.ring or p.denied) for p in processes
    )
    return Case(processes, concerned, names, threads, watched, parked, known)


def watched_sockets(
    processes: Iterable[ProcessWaits], concerned: Collection[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the sockets that a waiting thread would be told of, and those in a set without one."""
    watched: set[int] = set()
    parked: set[int] = set()
    for process in processes:
        waited = [d for t in process.threads for d in t.targets if t.act in _LOOKING]
        watched.update(d.inode for d in waited if d.inode is not None and d.inode in concerned)
        sets = _with_inner({d.number for d in waited if d.kind is FdKind.EPOLL}, process.epolls)
        for epoll in process.epolls or ():
            inodes = {w.inode for w in epoll.watches if w.armed and w.inode in concerned}
            (watched if epoll.fd in sets else parked).update(i for i in inodes if i is not None)
    return frozenset(watched), frozenset(parked - watched)


def _with_inner(sets: set[int], epolls: Iterable[EpollSet] | None) -> set[int]:
    """Return epoll sets and those that they watch: whoever waits in one is told of both."""
    inner = {epoll.fd: epoll.inner for epoll in epolls or ()}
    found, waiting = set(sets), list(sets)
    while waiting:
        new = set(inner.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


_LOOKING: Final = frozenset({Act.READ, Act.POLL, Act.ACCEPT})
