"""The sockets that wait half closed: CLOSE_WAIT sorted by why it waits, each with its age bounds.

Sources of the ages: tcp_get_info() in net/ipv4/tcp.c.  The FIN's own ACK stamps last_ack_recv, and
whatever comes later only makes that smaller: a lower bound.  Data cannot follow the FIN, so
last_data_recv is an upper bound.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from twdiag.analysis.ages import arrivals
from twdiag.analysis.kinship import family
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import TIMER_KEEPALIVE
from twdiag.named import NamedTuple
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from twdiag.model.sockets import Socket

POOL_RECV_Q: Final = frozenset({1, 24, 25, 32, 58, 70, 86})
"""Recv-Q of an idle pooled connection: the FIN alone, or behind a TLS close_notify.

That is 24 bytes (TLS 1.3) or, in TLS 1.2, 23 (ChaCha20), 31 (AES-GCM, AES-CCM) and 57, 69 and 85
(CBC with SHA1, SHA256 and SHA384), measured with OpenSSL 3.0.
"""

_LONG_ENOUGH: Final = 90.0
"""Seconds: longer than pools keep a connection that the server closed while it was idle."""

Identity = tuple["str | int", ...]
"""What makes a socket the same socket in two samples: its ends, and cookie or inode."""

Owners = Mapping[int, tuple[Owner, ...]]
"""The processes that hold a socket, by its inode."""


class CloseWaitKind(enum.Enum):
    """Why a CLOSE_WAIT waits."""

    LEAKED = "drained, not closed"
    UNREAD = "the reader is stuck"
    NEVER_ACCEPTED = "never accepted"
    IDLE_POOL = "idle in a client's pool"


class Waiting(NamedTuple):
    """One half-closed socket; its age lies between the bounds (s), None where there is none."""

    socket: Socket
    kind: CloseWaitKind
    server: bool
    age_min: float | None
    age_max: float | None
    new: bool | None


class Holder(NamedTuple):
    """Who holds some half-closed sockets: a process, or the processes of one name and user.

    `owner` is the process, or the one with the most of the sockets, `largest` of them; None where
    it was not seen.  `pids` are the numbers of all the processes.
    """

    owner: Owner | None
    uid: int
    sockets: tuple[Waiting, ...]
    processes: int = 1
    largest: int = 0
    pids: tuple[int, ...] = ()

    @property
    def fd_share(self) -> float | None:
        """What `owner` holds of these sockets as a share of its descriptor limit."""
        limit = self.owner.fd_limit if self.owner else None
        return self.largest / limit if limit else None

    @property
    def name(self) -> str:
        """Return "java (pid 812)", "apache2 (100 processes)" or "a process of uid 33"."""
        if self.owner is None:
            return f"a process of uid {self.uid} (owner not visible)"
        many = f"{self.processes} processes" if self.processes > 1 else f"pid {self.owner.pid}"
        return f"{self.owner.name} ({many})"

    @property
    def age_min(self) -> float | None:
        """The least age of any of them, None where one has no lower bound."""
        bounds = [w.age_min for w in self.sockets]
        known = [bound for bound in bounds if bound is not None]
        return min(known) if known and len(known) == len(bounds) else None

    @property
    def age_max(self) -> float | None:
        """The greatest age of any of them, None where one has no upper bound."""
        bounds = [w.age_max for w in self.sockets]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if known and len(known) == len(bounds) else None

    @property
    def arrivals(self) -> float | None:
        """How many begin to wait each second, None where their ages do not tell.

        Sockets that begin at a steady rate and are never closed have ages spread evenly from now
        to the first of them.
        """
        ages = [w.age_min for w in self.sockets if w.age_min is not None]
        found = arrivals(ages) if len(ages) == len(self.sockets) else None
        return found.per_second if found and found.oldest >= _LONG_ENOUGH else None

    def new(self) -> int | None:
        """How many began to wait since the earlier sample, None without one."""
        flags = [w.new for w in self.sockets if w.new is not None]
        return sum(flags) if flags else None


def close_waits(
    sockets: Iterable[Socket],
    is_server: Callable[[Socket], bool],
    before: Collection[Identity] | None,
    elapsed: float,
) -> list[Waiting]:
    """Return these CLOSE_WAITs, sorted by why they wait.

    `before` are those that were there in the earlier sample, None without one, taken `elapsed`
    seconds ago.
    """
    waiting = []
    for socket in sockets:
        server = is_server(socket)
        age_min, age_max = age_bounds(socket)
        new = None if before is None else identity(socket) not in before
        if new is False:
            age_min = max(age_min or 0.0, elapsed)
        waiting.append(Waiting(socket, _kind(socket, server), server, age_min, age_max, new))
    return waiting


def _kind(socket: Socket, server: bool) -> CloseWaitKind:
    if not socket.inode and not socket.mptcp:
        return CloseWaitKind.NEVER_ACCEPTED
    if socket.recv_q == 0:
        return CloseWaitKind.LEAKED
    return (
        CloseWaitKind.IDLE_POOL
        if not server and socket.recv_q in POOL_RECV_Q
        else CloseWaitKind.UNREAD
    )


def age_bounds(socket: Socket) -> tuple[float | None, float | None]:
    """Return (at least, at most) seconds in the half-closed state, from tcp_info.

    Keepalive answers stamp last_ack_recv too, so with that timer the lower bound may be low; it is
    never too high.
    """
    if socket.info is None:
        return None, None
    return socket.info.last_ack_recv / 1000, socket.info.last_data_recv / 1000


def orphan_seconds(fin_timeout: int) -> int:
    """Return how long the mini-socket of an orphan in FIN_WAIT2 lives, given tcp_fin_timeout.

    Above 60 s the kernel splits the wait, and the second part lives T - 60 s
    (tcp_rcv_state_process() in net/ipv4/tcp_input.c).
    """
    return fin_timeout - TIME_WAIT_SECONDS if fin_timeout > TIME_WAIT_SECONDS else fin_timeout


def orphan_age(left: float, fin_timeout: int) -> float:
    """Return for how long an orphan has been in FIN_WAIT2 whose mini-socket has so much left.

    Above 60 s it was a full socket before, for as long: see is_full_orphan().  A TCP_LINGER2 of the
    application is not visible.
    """
    before = max(0, fin_timeout - TIME_WAIT_SECONDS)
    return before + orphan_seconds(fin_timeout) - left


def is_full_orphan(socket: Socket) -> bool:
    """Return whether a socket is an orphan in FIN_WAIT2 that is not a mini-socket yet.

    Its keepalive timer ends the first part of a wait above 60 s.
    """
    return socket.state is State.FIN_WAIT2 and not socket.inode and socket.timer == TIMER_KEEPALIVE


def identity(socket: Socket) -> Identity:
    """Return what makes a socket the same socket in two samples: its ends, and inode or cookie."""
    ends = socket.local_address, socket.local_port, socket.remote_address, socket.remote_port
    return (*ends, socket.cookie or socket.inode)


def by_process(owners: Owners, sockets: Iterable[Waiting]) -> list[Holder]:
    """Return the sockets by the process that holds them, the largest group first.

    Sockets whose owner was not seen are grouped by user.
    """
    groups: dict[tuple[str, int], list[Waiting]] = {}
    found: dict[tuple[str, int], Owner | None] = {}
    for waiting in sockets:
        held_by = owners.get(waiting.socket.inode)
        owner = held_by[0] if held_by else None
        key = ("pid", owner.pid) if owner else ("uid", waiting.socket.uid)
        groups.setdefault(key, []).append(waiting)
        found[key] = owner
    result = [_holder(found[key], group) for key, group in groups.items()]
    return sorted(result, key=lambda h: -len(h.sockets))


def _holder(owner: Owner | None, group: list[Waiting]) -> Holder:
    pids = (owner.pid,) if owner else ()
    return Holder(owner, group[0].socket.uid, tuple(group), 1, len(group), pids)


def by_program(owners: Owners, sockets: Iterable[Waiting]) -> list[Holder]:
    """Return the sockets by the program that holds them: a server's workers together.

    A leak of a pre-forking server is spread over its workers, a few sockets each.  Processes of one
    name and user are one program only if they are relatives: two services may both be "java".
    """
    holders = by_process(owners, sockets)
    known = {holder.owner.pid: holder.owner for holder in holders if holder.owner}
    programs: dict[tuple[str | int | None, ...], list[Holder]] = {}
    for holder in holders:
        owner = holder.owner
        key = (owner.name, owner.user, *family(owner, known)) if owner else (None, holder.uid)
        programs.setdefault(key, []).append(holder)
    result = [
        Holder(
            workers[0].owner,
            workers[0].uid,
            tuple(socket for worker in workers for socket in worker.sockets),
            len(workers),
            workers[0].largest,
            tuple(sorted(worker.owner.pid for worker in workers if worker.owner)),
        )
        for workers in programs.values()
    ]
    return sorted(result, key=lambda h: -len(h.sockets))
