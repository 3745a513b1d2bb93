"""What the threads of a process wait for, as it was seen, and what is concluded from it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from twdiag.model.findings import Confidence

# include/uapi/linux/eventpoll.h
EPOLLIN: Final = 0x001
EPOLLRDNORM: Final = 0x040
EPOLLRDHUP: Final = 0x2000
EPOLLET: Final = 1 << 31


class FdKind(enum.Enum):
    """What a file descriptor stands for."""

    SOCKET = "socket"
    PIPE = "pipe"
    EPOLL = "epoll set"
    EVENT = "eventfd"
    TIMER = "timerfd"
    SIGNAL = "signalfd"
    RING = "io_uring"
    FILE = "file"
    DEVICE = "device"
    OTHER = "other"


class Descriptor(NamedTuple):
    """One open descriptor: its number, what it is, the inode of a socket or pipe, the link's text.

    `name` is text from outside: to be made visible() before it is shown.
    """

    number: int
    kind: FdKind
    inode: int | None
    name: str


class Act(enum.Enum):
    """What a thread does, as its state and system call tell.

    `FUTEX` is any wait of one thread for another: a lock, or an idle worker that waits for work;
    the kernel does not tell them apart.  `MUTEX` is a futex wait that only a contended lock makes.
    """

    RUN = "runs"
    READ = "reads"
    WRITE = "writes"
    CONNECT = "connects"
    ACCEPT = "accepts"
    POLL = "polls"
    FUTEX = "waits for another thread"
    MUTEX = "waits for a lock"
    CHILD = "waits for a child"
    SLEEP = "sleeps"
    SIGNAL = "waits for a signal"
    RING = "waits for io_uring"
    DISK = "is in disk sleep"
    STOPPED = "is stopped"
    TRACED = "is held by a debugger"
    OTHER = "does something else"
    UNSEEN = "not seen"


class ThreadWait(NamedTuple):
    """What one thread does.

    `state` is the letter of /proc/TID/status; `call` the system call's name (or "call 451"), None
    where the thread runs or it may not be seen; `targets` the descriptors it waits for (several in
    poll() and select(), the set itself in epoll_wait()); `futex` the address it waits at; `child`
    the process whose end or output it waits for (-1 any); `channel` the kernel function it sleeps
    in, "" where hidden.  `still` says whether it had not moved at a second look: None without one,
    and for a thread that wanted to run and got no CPU between the two.
    """

    tid: int
    name: str
    state: str
    act: Act
    call: str | None = None
    targets: tuple[Descriptor, ...] = ()
    futex: int | None = None
    child: int | None = None
    channel: str = ""
    still: bool | None = None


class EpollWatch(NamedTuple):
    """One descriptor in an epoll set: number, inode (None before Linux 4.11), events asked for."""

    fd: int
    inode: int | None
    events: int

    @property
    def armed(self) -> bool:
        """Whether data or a FIN would wake the loop (a one-shot watch that fired is disarmed)."""
        return bool(self.events & (EPOLLIN | EPOLLRDNORM | EPOLLRDHUP))

    @property
    def edge(self) -> bool:
        """Whether the loop is told of an event only once."""
        return bool(self.events & EPOLLET)


class EpollSet(NamedTuple):
    """An epoll set: its descriptor, how many it watches, and the watches of sockets sought.

    `inner` are the descriptors of the sets among what it watches.
    """

    fd: int
    size: int
    watches: tuple[EpollWatch, ...]
    inner: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessWaits:
    """What was seen of one process.

    `total` is its number of threads, of which `threads` were looked at.  `denied` says that system
    calls or descriptors may not be read; `epolls` is None where its epoll sets were not read.
    `tracer` is the debugger's pid, `frozen` whether its cgroup is frozen (docker pause), None where
    that is not known; `ring` whether it has an io_uring, whose requests nobody sees.  `whole` says
    whether every thread was looked at: of a process with hundreds only the first are.
    """

    pid: int
    name: str
    uid: int
    threads: tuple[ThreadWait, ...]
    total: int
    denied: bool = False
    epolls: tuple[EpollSet, ...] | None = None
    tracer: int | None = None
    frozen: bool | None = None
    ring: bool = False
    whole: bool = True


class EndRole(enum.Enum):
    """Which end a thread waits for: one of the finding's own peers, or somebody else."""

    PEER = "peer"
    UPSTREAM = "upstream"
    LISTENER = "listener"
    CLIENT = "client"
    LOCAL = "local"
    """A Unix socket or a pipe: another program or thread of this host."""


class FarEnd(NamedTuple):
    """The other end of what a thread waits for: role, address and port (None without), its name."""

    role: EndRole
    address: str | None
    port: int | None
    name: str


class OtherSocket(NamedTuple):
    """A socket that is in no TCP table.

    `protocol` is the kernel's name of it: "UNIX-STREAM", "UDP", "NETLINK", also "TCP" where it is
    reset or of another namespace.  Of a Unix socket `path` is its own (that of its listener where a
    server accepted it) and `peer_path` that of the other end; `program` is the process that holds
    the other end, where only one does.  What is unknown, or text from outside that is empty, is "".
    """

    protocol: str
    path: str = ""
    peer_path: str = ""
    program: str = ""
    connected: bool = False


class WaitGroup(NamedTuple):
    """Threads that do the same: how many, what, in which call, towards whom.

    `still` is how many of them had not moved at the second look, None without one.
    """

    threads: int
    act: Act
    call: str
    end: FarEnd | None
    still: int | None


class Cause(enum.Enum):
    """Why a process does not serve its sockets."""

    UPSTREAM = "stuck on an upstream"
    LOCKED = "all workers in a lock"
    BUSY = "all workers busy"
    FORGOTTEN = "forgotten by the program"
    NOT_ACCEPTING = "nobody calls accept()"
    PEER = "waits for the other end"
    ELSEWHERE = "waits for something else"
    STOPPED = "stopped by a signal"
    TRACED = "held by a debugger"
    FROZEN = "frozen"
    DISK = "in disk sleep"
    INHERITED = "inherited by a child"
    CHILD = "waits for a child process"
    CONFIGURED = "kept by configuration"


HALTED: Final = frozenset({Cause.STOPPED, Cause.TRACED, Cause.FROZEN})
"""Causes by which a process does nothing at all until somebody lets it go on."""


class Conclusion(NamedTuple):
    """Why the sockets are not served: the cause, how sure, one sentence, the end it is about.

    `pid` is a process that shows it: the one whose stack to look at.
    """

    cause: Cause
    confidence: Confidence
    sentence: str
    end: FarEnd | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Waits:
    """What the processes of a finding wait for.

    `threads` were seen in `processes` processes, idle ones of a runtime aside; `groups` are sorted
    by what they tell, an upstream first and idle threads last, and by size.  `sockets` are the
    finding's, of which `watched` are watched or read by a thread that waits right now, `parked` are
    in an epoll set that nobody waits for; both are None where epoll sets could not be read.
    `lines` is all of it in words, the first line the most useful one.  `pid` is the process to look
    at: of several the one that tells most.
    """

    pid: int | None
    processes: int
    threads: int
    groups: tuple[WaitGroup, ...]
    sockets: int
    watched: int | None
    parked: int | None
    conclusion: Conclusion | None
    lines: tuple[str, ...]


class NextCommand(NamedTuple):
    """A command to run next, ready to paste, with what to look for and what it does to the process.

    `tool` is what has to be installed for it, "" where nothing has to; `source` documents it.
    """

    run: str
    look: str
    effect: str
    tool: str
    source: str
