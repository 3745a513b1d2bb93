"""How far what is limited is used up: local ports, the TIME_WAIT table, descriptors, queues."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.port_use import WORTH_A_LOOK
from twdiag.analysis.wanted import words_for
from twdiag.tcp import State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from twdiag.analysis.view import View
    from twdiag.analysis.wanted import RowKey, Wanted

_MOST: Final = 50
_QUEUE_SHARE: Final = 0.1
_NEARLY: Final = 0.9
_SOON: Final = 300.0
"""Seconds: time enough to do something, if one knows at once."""
TABLE: Final = "net.ipv4.tcp_max_tw_buckets"
_ORPHANS: Final = "net.ipv4.tcp_max_orphans"


class Budget(NamedTuple):
    """How far something limited is used up; `full_in` is None where it does not fill as it goes.

    `kind` is "ports", "time-wait", "descriptors", "accept-queue" or "orphans"; `growth` is per
    second, None where it is not known; `reusable` are the used ports that connect() can get again.
    """

    kind: str
    name: str
    used: int
    size: int
    growth: float | None = None
    full_in: float | None = None
    port: int | None = None
    reusable: int = 0

    @property
    def share(self) -> float:
        """The used part."""
        return self.used / self.size if self.size else 1.0

    @property
    def urgent(self) -> bool:
        """Whether it is nearly used up, or soon will be."""
        soon = self.full_in is not None and self.full_in <= _SOON
        return self.share >= _NEARLY or soon


def budgets(view: View, wanted: Wanted) -> dict[RowKey, Budget]:
    """Return what is used up to a good part, the fullest first; the TIME_WAIT table in any case."""
    found: dict[RowKey, Budget] = {}
    if wanted.all:
        found |= _whole_host(view)
    if not wanted.processes:
        found |= _ports(view, wanted)
    found |= _queues(view, wanted)
    if not wanted.ports:
        found |= _descriptors(view, wanted)
    return dict(sorted(found.items(), key=lambda item: -item[1].share))


def _whole_host(view: View) -> dict[RowKey, Budget]:
    """Return the table of TIME_WAITs, and the orphans if they are many of those allowed."""
    found: dict[RowKey, Budget] = {}
    size, used = view.sysctl(TABLE), view.sockstat("TCP.tw")
    used = view.count(State.TIME_WAIT) if used is None else used
    if size and "sockets" not in view.missing:
        found["time-wait",] = Budget("time-wait", "TIME_WAIT table", used, size)
    orphans, most = view.sockstat("TCP.orphan"), view.sysctl(_ORPHANS)
    if orphans is not None and most and orphans / most >= WORTH_A_LOOK:
        found["orphans",] = Budget("orphans", "orphans, all of the host", orphans, most)
    return found


def _ports(view: View, wanted: Wanted) -> dict[RowKey, Budget]:
    """Return the port budgets of the destinations that use a good part of it, or are asked for."""
    found: dict[RowKey, Budget] = {}
    places = Counter((d.address, d.port) for d in view.census.destinations)
    for use in view.port_use[:_MOST]:
        to = use.destination
        asked = to.port in wanted.ports
        if not wanted.port(to.port) or not (asked or use.used_ratio >= WORTH_A_LOOK):
            continue
        name = f"ports to {endpoint(to.address, to.port)}"
        if places[to.address, to.port] > 1:
            name += f" from {to.source}"
        key = ("ports", to.source, to.address, to.port)
        found[key] = Budget(
            "ports",
            name,
            use.used,
            use.ports,
            full_in=use.seconds_to_exhaustion,
            port=to.port,
            reusable=use.reusable,
        )
    return found


def _queues(view: View, wanted: Wanted) -> dict[RowKey, Budget]:
    """Return the accept queues that are used to a part; a backlog of 0 is not shown by a source."""
    found: dict[RowKey, Budget] = {}
    for listener in view.listeners:
        used = sum(s.recv_q for s in listener.sockets)
        size = sum(s.send_q for s in listener.sockets)
        owners = words_for(view.owners_of(s.inode for s in listener.sockets))
        asked = wanted.port(listener.port) and wanted.process(*owners)
        if asked and size and used / size >= _QUEUE_SHARE:
            name = f"accept queue {endpoint(listener.address, listener.port)}"
            key = ("accept-queue", listener.address, listener.port)
            found[key] = Budget("accept-queue", name, used, size, port=listener.port)
    return found


def _descriptors(view: View, wanted: Wanted) -> dict[RowKey, Budget]:
    """Return the processes with half of their descriptors in use or more."""
    return {
        ("descriptors", owner.pid, owner.name): Budget(
            "descriptors",
            f"descriptors of {owner.name} (pid {owner.pid})",
            owner.fds,
            owner.fd_limit,
        )
        for owner in view.crowded
        if owner.fds is not None
        and owner.fd_limit
        and 2 * owner.fds >= owner.fd_limit
        and wanted.process(*words_for([owner]))
    }
