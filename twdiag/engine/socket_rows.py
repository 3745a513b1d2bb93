"""One socket with what its neighbours tell of it, and the orders that such rows can have."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.engine.row_filter import BOUND_WORD
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twdiag.analysis.row import Age, SocketSide
    from twdiag.model.namespaces import Container
    from twdiag.model.snapshot import Owner
    from twdiag.model.sockets import Socket


class SocketRow(NamedTuple):
    """One socket, with what its neighbours tell of it.

    `first` is who closed first, "here", "peer" or "both", None where nobody has; `left` is after
    how many seconds a timer ends it, None where none does.  `send_q` is None for a backlog that was
    not seen.  `owners` is None where they were not seen, empty where there are none: the kernel
    keeps none of a closed socket, and nobody has accepted some connections.
    """

    socket: Socket
    side: SocketSide
    first: str | None
    age: Age
    left: float | None
    send_q: int | None
    owners: tuple[Owner, ...] | None
    container: Container | None
    netns: str

    @property
    def state(self) -> str:
        """The name of its state, BOUND for one that is bound and no more."""
        return BOUND_WORD if self.socket.bound else self.socket.state.name

    @property
    def is_queued(self) -> bool:
        """Whether it waits in an accept queue: nobody has called accept() for it yet."""
        return (
            self.socket.state in (State.ESTABLISHED, State.CLOSE_WAIT)
            and not self.socket.inode
            and not self.socket.mptcp
        )


SORTS: Final[Mapping[str, Callable[[SocketRow], Any]]] = {
    "age": lambda row: 1.0 if row.age.low is None else -row.age.low,
    "left": lambda row: float("inf") if row.left is None else row.left,
    "recv-q": lambda row: -row.socket.recv_q,
    "send-q": lambda row: -(row.send_q or 0),
    "state": lambda row: row.state,
    "port": lambda row: row.socket.local_port,
    "peer": lambda row: (row.socket.remote_address, row.socket.remote_port),
    "process": lambda row: (not row.owners, [(o.name, o.pid) for o in row.owners or ()][:1]),
}
"""What rows can be sorted by: the oldest, soonest gone or largest first, unknown ones last."""


def ordered(rows: Iterable[SocketRow], sort: str | None, top: int | None) -> Iterable[SocketRow]:
    """Return rows in an order, or as they come; of `top` rows no more than these are kept."""
    if sort is None and top is None:
        return rows
    key = SORTS[sort or "age"]
    return sorted(rows, key=key) if top is None else heapq.nsmallest(top, rows, key=key)
