"""The View that rules see: what was seen of a namespace, in the words of their subject."""

from __future__ import annotations

import copy
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from twdiag.analysis.half_closed import CloseWaitKind, Waiting, close_waits, identity
from twdiag.analysis.port_use import port_uses
from twdiag.analysis.rates import closing, rate_of
from twdiag.analysis.snat_use import snat_uses
from twdiag.census.intake import CLIENTS_FROM
from twdiag.census.listeners import find_listener
from twdiag.model.ports import PortBudget
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twdiag.analysis.port_use import Use
    from twdiag.analysis.rates import Closing, Rate
    from twdiag.analysis.snat_use import SnatUse
    from twdiag.model.census import Census, Destination, History, Listener, Server
    from twdiag.model.conntrack import Conntrack
    from twdiag.model.snapshot import Breakdown, Gap, Owner, Snapshot
    from twdiag.model.sockets import Socket
_FEW: Final = 8


class View:
    """One namespace at one moment, with the earlier of two samples in `earlier`.

    `owners` maps socket inodes to the processes that hold them.  A word is worked out when it is
    first asked for, and once.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.owners: Mapping[int, tuple[Owner, ...]] = snapshot.owners
        self.earlier = None if snapshot.earlier is None else View(snapshot.earlier)

    def with_owners(
        self,
        owners: Mapping[int, tuple[Owner, ...]],
        gaps: Iterable[Gap] = (),
        breakdowns: Mapping[int, Breakdown] = MappingProxyType({}),
    ) -> View:
        """Return the same view with owners; what was worked out of the sockets is kept."""
        named = copy.copy(self)
        named.owners = owners
        named.snapshot = self.snapshot._replace(
            owners=owners,
            breakdowns=breakdowns,
            gaps=(*self.snapshot.gaps, *gaps),
        )
        return named

    @property
    def census(self) -> Census:
        """All sockets: few one by one, the others counted."""
        return self.snapshot.census

    # Numbers of the kernel; None was not seen.

    @property
    def taken_at(self) -> float:
        """When it was seen, seconds since 1970."""
        return self.snapshot.taken_at

    def counter(self, name: str) -> int | None:
        """Return a counter of /proc/net/netstat or snmp, such as TcpExt.TW."""
        return self.snapshot.counters.get(name)

    def sockstat(self, name: str) -> int | None:
        """Return a number of /proc/net/sockstat, such as TCP.tw."""
        return self.snapshot.sockstat.get(name)

    def sysctl_text(self, name: str) -> str:
        """Return a sysctl as it stands there, "" where it was not seen."""
        return self.snapshot.sysctls.get(name, "")

    def sysctl(self, name: str) -> int | None:
        """Return a sysctl as a whole number, None where it was not seen or is not one."""
        try:
            return int(self.snapshot.sysctls[name])
        except (KeyError, ValueError):
            return None

    def grown(self, counter: str) -> int | None:
        """Return by how much a counter grew since the earlier sample, None without one."""
        now = self.counter(counter)
        before = self.earlier.counter(counter) if self.earlier else None
        # A smaller number was counted anew since: nothing is known of the growth.
        return None if now is None or before is None or before > now else now - before

    # Sockets.

    @property
    def missing(self) -> frozenset[str]:
        """The keys of everything that was not seen at all."""
        return self.snapshot.missing

    def sockets(self, *states: State) -> list[Socket]:
        """Return the sockets in these states, of those that are kept one by one."""
        return self.census.in_state(*states)

    def count(self, state: State) -> int:
        """Return how many sockets are in a state."""
        return self.census.states.get(state, 0)

    @property
    def closes(self) -> History:
        """When every TIME_WAIT of the namespace began."""
        return self.census.all.time_wait

    @cached_property
    def closing(self) -> Closing:
        """How fast connections close, by the rows and by the kernel's counters."""
        return closing(self.closes, self.snapshot.pace)

    def rate_of(self, group: History) -> Rate:
        """Return the closing rate of a group of sockets."""
        return rate_of(group, self.closes, self.closing)

    @cached_property
    def budget(self) -> PortBudget:
        """The ports that connect() may use."""
        unconnected = (s for s in self.census.sockets if s.bound)
        taken = {socket.local_port for socket in unconnected}
        taken.update(port for _, port in self.census.listeners)
        return PortBudget.of(self.snapshot.sysctls, taken)

    @property
    def bound(self) -> list[Socket]:
        """The sockets that are bound and neither listen nor are connected."""
        return [socket for socket in self.census.sockets if socket.bound]

    # Listeners and servers.

    @property
    def listeners(self) -> Iterable[Listener]:
        """All listeners, SO_REUSEPORT copies folded into one."""
        return self.census.listeners.values()

    def listener_of(self, socket: Socket) -> Listener | None:
        """Return the listener that a socket's local end belongs to, None without one."""
        return find_listener(self.census.listeners, socket.local_address, socket.local_port)

    def is_client(self, socket: Socket) -> bool:
        """Return whether this host made a connection: its port is one that connect() hands out.

        An MPTCP connection is none: its subflows are sockets of their own and hold the ports.
        """
        usable = self.budget.usable_mask[socket.local_port]
        return bool(usable) and not socket.mptcp and self.listener_of(socket) is None

    def is_server(self, socket: Socket) -> bool:
        """Return whether a connection is a server's, whose listener may be gone by now."""
        if self.listener_of(socket) is not None:
            return True
        # A client can have a fixed port too (a proxy's source address): it goes to a service.
        return socket.local_port not in self.budget and socket.remote_port >= CLIENTS_FROM

    @property
    def servers(self) -> tuple[Server, ...]:
        """The listeners with connections, those that closed most of them first."""
        return self.census.servers

    # Destinations.

    def destinations(self, at_least: int) -> list[Destination]:
        """Return the destinations with so many sockets or more, the largest first."""
        return [d for d in self.census.destinations if d.sockets >= at_least]

    @cached_property
    def port_use(self) -> list[Use]:
        """How far each destination has used up the local ports towards it, the fullest first."""
        sysctls, hidden = self.snapshot.sysctls, self.closing.hidden
        return port_uses(self.census.destinations, self.budget, sysctls, forecast=not hidden)

    def live_inodes(self, destination: Destination) -> list[int]:
        """Return the inodes of a few live sockets to a destination."""
        found = [destination.inode] if destination.inode else []
        ends = destination.source, destination.address, destination.port
        for socket in self.census.sockets:
            if (socket.local_address, socket.remote_address, socket.remote_port) == ends:
                if socket.inode and self.is_client(socket):
                    found.append(socket.inode)
                if len(found) == _FEW:
                    break
        return found

    # Connection tracking.

    @property
    def conntrack(self) -> Conntrack | None:
        """What connection tracking holds, None on a kernel without it."""
        return self.snapshot.conntrack

    @cached_property
    def snat_use(self) -> list[SnatUse]:
        """How far each SNAT has used up its source ports, the fullest first."""
        return snat_uses(self.conntrack)

    # Waiting sockets and who holds them.

    @cached_property
    def close_waits(self) -> list[Waiting]:
        """Every CLOSE_WAIT, sorted by why it waits."""
        earlier, before, elapsed = self.earlier, None, 0.0
        if earlier is not None and "sockets" not in earlier.missing:
            before = {identity(socket) for socket in earlier.sockets(State.CLOSE_WAIT)}
            elapsed = self.taken_at - earlier.taken_at
        return close_waits(self.sockets(State.CLOSE_WAIT), self.is_server, before, elapsed)

    @cached_property
    def by_inode(self) -> Mapping[int, Socket]:
        """The kept sockets that processes hold."""
        return {socket.inode: socket for socket in self.census.sockets if socket.inode}

    @cached_property
    def close_waits_of(self) -> Mapping[tuple[int, CloseWaitKind], list[Waiting]]:
        """The same in lists, by user and kind."""
        found: dict[tuple[int, CloseWaitKind], list[Waiting]] = {}
        for waiting in self.close_waits:
            found.setdefault((waiting.socket.uid, waiting.kind), []).append(waiting)
        return found

    @cached_property
    def unaccepted(self) -> Mapping[Listener, list[float]]:
        """For how long (s) the live connections in each accept queue have waited, where seen.

        A server sends nothing before accept(), so last_data_sent still counts from the handshake.
        """
        ages: dict[Listener, list[float]] = {}
        for socket in self.sockets(State.ESTABLISHED):
            listener = self.listener_of(socket)
            if listener is not None and not socket.inode and socket.info is not None:
                ages.setdefault(listener, []).append(socket.info.last_data_sent / 1000)
        return ages

    @property
    def crowded(self) -> tuple[Owner, ...]:
        """The processes with half of their descriptors in use or more, the fullest first."""
        return self.snapshot.crowded

    def breakdown(self, pid: int) -> Breakdown | None:
        """Return what the descriptors of a process are, None where that was not seen."""
        return self.snapshot.breakdowns.get(pid)

    def process_before(self, pid: int) -> Owner | None:
        """Return a process as it was in the earlier sample, None where it was not seen there."""
        if self.earlier is None:
            return None
        holders = (owner for group in self.earlier.owners.values() for owner in group)
        known = (*self.earlier.crowded, *holders)
        return next((owner for owner in known if owner.pid == pid), None)

    def owners_of(self, inodes: Iterable[int]) -> tuple[Owner, ...]:
        """Return the processes that hold these sockets, each once, as far as they were seen."""
        found: dict[int, Owner] = {}
        for inode in inodes:
            found.update({owner.pid: owner for owner in self.owners.get(inode, ())})
        return tuple(found.values())
