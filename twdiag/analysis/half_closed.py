"""The sockets that wait half closed: CLOSE_WAIT sorted by why it waits, each with its age bounds.

Sources of the ages: tcp_get_info() in net/ipv4/tcp.c.  The FIN's own ACK stamps last_ack_recv, and
whatever comes later only makes that smaller: a lower bound.  Data cannot follow the FIN, so
last_data_recv is an upper bound.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.columns import either
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model import Owner, Snapshot

POOL_RECV_Q: Final = frozenset({1, 25, 32})
"""Recv-Q of an idle pooled connection: the FIN alone, or after a TLS 1.3 or 1.2 close_notify."""

Identity = tuple[int, int, int, int, int]


class Kind(enum.Enum):
    """Why a CLOSE_WAIT waits."""

    LEAKED = "drained, not closed"
    UNREAD = "the reader is stuck"
    NEVER_ACCEPTED = "never accepted"
    IDLE_POOL = "idle in a client's pool"


class Waiting(NamedTuple):
    """One half-closed socket; its age lies between the bounds (s), None where there is none."""

    row: int
    kind: Kind
    server: bool
    age_min: float | None
    age_max: float | None
    new: bool | None


class Holder(NamedTuple):
    """Who holds some half-closed sockets: a process, or the processes of one name and user.

    `owner` is the process, or the one with the most of the sockets, `largest` of them; None where
    it was not seen.
    """

    owner: Owner | None
    uid: int
    sockets: tuple[Waiting, ...]
    processes: int = 1
    largest: int = 0

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

    def new(self) -> int | None:
        """How many began to wait since the earlier sample, None without one."""
        flags = [w.new for w in self.sockets if w.new is not None]
        return sum(flags) if flags else None


def close_waits(snapshot: Snapshot) -> list[Waiting]:
    """Return every CLOSE_WAIT of a snapshot, sorted by why it waits."""
    table = snapshot.sockets
    rows = table.rows_in(State.CLOSE_WAIT)
    if not rows:
        return []
    # The listener of a service can be gone while its connections stay: a port outside of the
    # ephemeral range is a server's too.
    server_side = either(snapshot.flows.server_side, snapshot.flows.fixed_ports)
    before = earlier_waits(snapshot, State.CLOSE_WAIT)
    waiting = []
    for row in rows:
        server = bool(server_side[row])
        age_min, age_max = _age_bounds(snapshot, row)
        seen_before = None if before is None else identity(snapshot, row) in before
        if seen_before and snapshot.earlier is not None:
            age_min = max(age_min or 0.0, snapshot.taken_at - snapshot.earlier.taken_at)
        new = None if seen_before is None else not seen_before
        waiting.append(Waiting(row, _kind(snapshot, row, server), server, age_min, age_max, new))
    return waiting


def _kind(snapshot: Snapshot, row: int, server: bool) -> Kind:
    table = snapshot.sockets
    if not table.inode[row] and row not in table.mptcp:
        return Kind.NEVER_ACCEPTED
    recv_q = table.recv_q[row]
    if recv_q == 0:
        return Kind.LEAKED
    return Kind.IDLE_POOL if not server and recv_q in POOL_RECV_Q else Kind.UNREAD


def _age_bounds(snapshot: Snapshot, row: int) -> tuple[float | None, float | None]:
    """Return (at least, at most) seconds in the half-closed state, from tcp_info.

    Keepalive answers stamp last_ack_recv too, so with that timer the lower bound may be low; it is
    never too high.
    """
    info = snapshot.tcp_info.get(snapshot.sockets.cookie[row])
    if info is None:
        return None, None
    return info.last_ack_recv / 1000, info.last_data_recv / 1000


def identity(snapshot: Snapshot, row: int) -> Identity:
    """Return what makes a socket the same socket in two samples: its ends, and inode or cookie."""
    table = snapshot.sockets
    mark = table.cookie[row] or table.inode[row]
    ends = (hash(table.addresses.text(table.src[row])), hash(table.addresses.text(table.dst[row])))
    return (*ends, table.sport[row], table.dport[row], mark)


def earlier_waits(snapshot: Snapshot, state: State) -> set[Identity] | None:
    """Return the sockets that were in a state in the earlier sample, None if it did not see."""
    earlier = snapshot.earlier
    if earlier is None or "sockets" in earlier.missing:
        return None
    return {identity(earlier, row) for row in earlier.sockets.rows_in(state)}


def by_process(snapshot: Snapshot, sockets: Iterable[Waiting]) -> list[Holder]:
    """Return the sockets by the process that holds them, the largest group first.

    Sockets whose owner was not seen are grouped by user.
    """
    groups: dict[tuple[str, int], list[Waiting]] = {}
    found: dict[tuple[str, int], Owner | None] = {}
    for socket in sockets:
        held_by = snapshot.owners.get(snapshot.sockets.inode[socket.row])
        owner = held_by[0] if held_by else None
        uid = snapshot.sockets.uid[socket.row]
        key = ("pid", owner.pid) if owner else ("uid", uid)
        groups.setdefault(key, []).append(socket)
        found[key] = owner
    result = [
        Holder(found[key], snapshot.sockets.uid[group[0].row], tuple(group), 1, len(group))
        for key, group in groups.items()
    ]
    return sorted(result, key=lambda h: -len(h.sockets))


def by_program(snapshot: Snapshot, sockets: Iterable[Waiting]) -> list[Holder]:
    """Return the sockets by the program that holds them: processes of one name and user together.

    A leak of a pre-forking server is spread over its workers, a few sockets each.
    """
    programs: dict[tuple[str | None, str | int], list[Holder]] = {}
    for holder in by_process(snapshot, sockets):
        owner = holder.owner
        key = (owner.name, owner.user) if owner else (None, holder.uid)
        programs.setdefault(key, []).append(holder)
    result = [
        Holder(
            workers[0].owner,
            workers[0].uid,
            tuple(socket for worker in workers for socket in worker.sockets),
            len(workers),
            workers[0].largest,
        )
        for workers in programs.values()
    ]
    return sorted(result, key=lambda h: -len(h.sockets))
