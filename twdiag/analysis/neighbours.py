"""Tell who is at the other end of a finding's connections, where that is on this host too.

Half-closed connections are joined by their four-tuples (ends.py).  Of a destination, and of clients
that are gone, only the address is left: it tells where exactly one namespace of the host has it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.ends import End, is_of_one_namespace, join
from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    Advice,
    DestinationSubject,
    ListenerSubject,
    OtherEnd,
)
from twdiag.model.snapshot import HOST_NETNS
from twdiag.tcp import State
from twdiag.wording import count, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twdiag.analysis.half_closed import Owners
    from twdiag.analysis.view import View
    from twdiag.model.findings import Finding
    from twdiag.model.snapshot import Owner
    from twdiag.model.sockets import Socket

MOST_SOCKETS: Final = 20_000
"""So many half-closed sockets are joined in 0.1 s; of more, none is."""

_MOST_TOLD: Final = 3
_WILDCARDS: Final = ("0.0.0.0", "::")
_NEVER_CLOSES: Final = "peer-never-closes"
"""The rule whose first advice is to look at the other end, without knowing it."""


class Neighbour(NamedTuple):
    """A namespace: what it is called, its addresses, and its view, None where nobody looked."""

    label: str
    addresses: frozenset[str]
    view: View | None = None


class _Pair(NamedTuple):
    """A socket of a finding, the other end of its connection, and the neighbour that has that."""

    near: Socket
    far: Socket
    place: int


class Neighbourhood:
    """The namespaces of a host, each with a number: its place among them."""

    def __init__(self, neighbours: Sequence[Neighbour]) -> None:
        self._neighbours = neighbours
        self._homes: dict[str, list[int]] = defaultdict(list)
        for number, neighbour in enumerate(neighbours):
            for address in neighbour.addresses:
                self._homes[address].append(number)

    @cached_property
    def half_closed(self) -> int:
        """How many sockets of all neighbours could have another end here."""
        return sum(len(sockets) for _, sockets in self._half_closed)

    @cached_property
    def _half_closed(self) -> list[tuple[int, list[Socket]]]:
        return [
            (number, neighbour.view.sockets(State.CLOSE_WAIT, State.FIN_WAIT2))
            for number, neighbour in enumerate(self._neighbours)
            if neighbour.view is not None
        ]

    @cached_property
    def _ends(self) -> list[End]:
        """The half-closed sockets of all neighbours, none where there are too many."""
        if self.half_closed > MOST_SOCKETS:
            return []
        return [End(number + 1, s) for number, sockets in self._half_closed for s in sockets]

    @cached_property
    def _other(self) -> dict[tuple[int, Socket], End]:
        """The other end of each half-closed socket of which both ends were seen."""
        found: dict[tuple[int, Socket], End] = {}
        for one, other in join(self._ends):
            found[one.namespace - 1, one.socket] = other
            found[other.namespace - 1, other.socket] = one
        return found

    def inodes(self, place: int, finding: Finding) -> set[int]:
        """Return the sockets whose owners would be named with a finding of a neighbour."""
        pairs = [*self._pairs(place, finding), *self._passed_on(place, finding)]
        found = {pair.far.inode for pair in pairs} | {pair.near.inode for pair in pairs}
        found |= {end.socket.inode for end in self._never_closed(place, finding)}
        _, serving = self._server(place, finding)
        _, calling = self._client(place, finding)
        return (found | serving | calling) - {0}

    def told(self, place: int, finding: Finding, owners: Owners) -> Finding:
        """Return a finding of a neighbour with who is at the other ends, and which one must act."""
        ends = [
            *self._told_passed_on(place, finding, owners),
            *self._told_pairs(place, finding, owners),
        ]
        ends = ends or [*self._told_never_closed(place, finding, owners)]
        ends = ends or [*self._told_server(place, finding, owners)]
        ends = ends or [*self._told_client(place, finding, owners)]
        if not ends:
            return finding
        advice = finding.advice
        if finding.rule == _NEVER_CLOSES and ends[0].must_act:
            advice = (_let_it_close(ends[0], finding), *advice[1:])
        return finding._replace(other_ends=tuple(ends[:_MOST_TOLD]), advice=advice)

    # Connections of which both ends were seen.

    def _pairs(self, place: int, finding: Finding) -> list[_Pair]:
        return [*self._joined(place, self._near(place, finding))]

    def _joined(self, place: int, sockets: Iterable[Socket]) -> Iterator[_Pair]:
        for socket in sockets:
            other = self._other.get((place, socket))
            if other is not None:
                yield _Pair(socket, other.socket, other.namespace - 1)

    def _near(self, place: int, finding: Finding) -> list[Socket]:
        """Return the half-closed sockets that a finding is about."""
        view, state, subject = self._neighbours[place].view, _state(finding), finding.subject
        if view is None or state not in (State.CLOSE_WAIT, State.FIN_WAIT2):
            return []
        if not isinstance(subject, (DestinationSubject, ListenerSubject)):
            found = (view.by_inode.get(inode) for inode in dict.fromkeys(finding.inodes))
            return [s for s in found if s is not None and s.state is state]
        sockets = view.sockets(state)
        if isinstance(subject, DestinationSubject):
            ends = subject.address, subject.port
            return [s for s in sockets if (s.remote_address, s.remote_port) == ends]
        return [s for s in sockets if _belongs(view, s, subject)]

    def _told_pairs(self, place: int, finding: Finding, owners: Owners) -> Iterator[OtherEnd]:
        for end in self._grouped(self._pairs(place, finding), owners):
            who = self._who(place, end.place, end.process)
            number = f"{end.sockets:,} of them"
            if _state(finding) is State.FIN_WAIT2:
                text = f"{who} holds {number} in CLOSE_WAIT: it has to close"
                if not end.accepted:
                    text = f"{who} has not accepted {number}: there they wait in CLOSE_WAIT"
            else:
                text = f"{who} closed {number} first, and waits in FIN_WAIT2 for this end"
            yield self._end(text, end, must_act=_state(finding) is State.FIN_WAIT2)

    def _passed_on(self, place: int, finding: Finding) -> list[_Pair]:
        """Return connections of the same namespace that wait for a process elsewhere.

        A proxy such as docker-proxy makes two connections of one: what it has not closed on one
        side can wait for what it has closed on the other.
        """
        view = self._neighbours[place].view
        if view is None or _state(finding) is not State.CLOSE_WAIT or not finding.inodes:
            return []
        return [*self._joined(place, view.sockets(State.FIN_WAIT2))]

    def _told_passed_on(self, place: int, finding: Finding, owners: Owners) -> Iterator[OtherEnd]:
        pids = set(finding.pids)
        ours = [
            pair
            for pair in self._passed_on(place, finding)
            if any(owner.pid in pids for owner in owners.get(pair.near.inode, ()))
            and not any(owner.pid in pids for owner in owners.get(pair.far.inode, ()))
        ]
        for end in self._grouped(ours, owners):
            who = self._who(place, end.place, end.process)
            own = next(o.name for o in owners[ours[0].near.inode] if o.pid in pids)
            number = count(end.sockets, "connection")
            text = f"{who} holds {number} from {own} in CLOSE_WAIT: look there first"
            yield self._end(text, end, must_act=True)

    def _grouped(self, pairs: Iterable[_Pair], owners: Owners) -> list[_Far]:
        """Return the far ends by namespace and process, those with the most connections first."""
        numbers: Counter[tuple[int, Owner | None, bool]] = Counter()
        for pair in pairs:
            held_by = owners.get(pair.far.inode, ())
            owner = held_by[0] if held_by else None
            numbers[pair.place, owner, bool(pair.far.inode)] += 1
        return [_Far(*key, number) for key, number in numbers.most_common()]

    def _never_closed(self, place: int, finding: Finding) -> list[End]:
        """Return the CLOSE_WAITs of a service whose other ends are orphans here, only counted.

        They are told by the service and by the one namespace that has the address of their peer.
        """
        subject = finding.subject
        if _state(finding) is not State.FIN_WAIT2:
            return []
        if isinstance(subject, DestinationSubject):
            home, service = self.home_of(place, subject.address), (subject.address, subject.port)
            return [
                end
                for end in self._ends
                if end.namespace - 1 == home
                and (end.socket.local_address, end.socket.local_port) == service
                and self._is_left_by(place, end)
            ]
        if isinstance(subject, ListenerSubject):
            return [
                end
                for end in self._ends
                if end.socket.remote_port == subject.port
                and subject.address in (*_WILDCARDS, end.socket.remote_address)
                and self._is_left_by(place, end)
            ]
        return []

    def _is_left_by(self, place: int, end: End) -> bool:
        """Return whether a socket is a CLOSE_WAIT whose peer's address is that of a neighbour."""
        socket = end.socket
        if socket.state is not State.CLOSE_WAIT:
            return False
        return self.home_of(end.namespace - 1, socket.remote_address) == place

    def _told_never_closed(
        self, place: int, finding: Finding, owners: Owners
    ) -> Iterator[OtherEnd]:
        pairs = (
            _Pair(end.socket, end.socket, end.namespace - 1)
            for end in self._never_closed(place, finding)
        )
        for far in self._grouped(pairs, owners):
            who = self._who(place, far.place, far.process)
            number = count(far.sockets, "connection")
            text = f"{who} holds {number} from here in CLOSE_WAIT: it has to close"
            if not far.accepted:
                text = f"{who} has not accepted {number} from here: there they are in CLOSE_WAIT"
            yield self._end(text, far, must_act=True)

    def _end(self, text: str, far: _Far, *, must_act: bool) -> OtherEnd:
        return OtherEnd(text, self._neighbours[far.place].label, far.process, far.sockets, must_act)

    # Addresses.

    def home_of(self, place: int, address: str) -> int | None:
        """Return the one namespace that an address seen in another one belongs to."""
        if is_of_one_namespace(address):
            return place if address.startswith("127.") or address == "::1" else None
        homes = self._homes.get(address, [])
        return homes[0] if len(homes) == 1 else None

    def _server(self, place: int, finding: Finding) -> tuple[int | None, set[int]]:
        """Return the namespace of a finding's destination, and the inodes of who listens there."""
        subject = finding.subject
        if isinstance(subject, AddressSubject):
            home = self.home_of(place, subject.address)
            return (None if home == place else home), set()
        if not isinstance(subject, DestinationSubject):
            return None, set()
        home = self.home_of(place, subject.address)
        view = None if home is None else self._neighbours[home].view
        listeners = () if view is None else view.listeners
        return home, {
            socket.inode
            for listener in listeners
            if listener.port == subject.port and listener.takes(subject.address)
            for socket in listener.sockets
        }

    def _told_server(self, place: int, finding: Finding, owners: Owners) -> Iterator[OtherEnd]:
        home, inodes = self._server(place, finding)
        subject = finding.subject
        if home is None or not isinstance(subject, (DestinationSubject, AddressSubject)):
            return
        owner = _first_owner(inodes, owners)
        label = self._neighbours[home].label
        if isinstance(subject, DestinationSubject):
            where = endpoint(subject.address, subject.port)
            if owner is not None:
                yield OtherEnd(f"{where} is {self._who(place, home, owner)}", label, owner)
                return
        else:
            where = subject.address
        if home != place:
            yield OtherEnd(f"{where} is {self._where(home)}", label)

    def _client(self, place: int, finding: Finding) -> tuple[int | None, set[int]]:
        """Return the namespace of a listener's busiest client, and an inode of a live connection.

        None where the client is in the same namespace, or not on this host.
        """
        clients, subject = finding.evidence.get(facts.TOP_CLIENTS), finding.subject
        if not isinstance(subject, ListenerSubject) or not isinstance(clients, list) or not clients:
            return None, set()
        home = self.home_of(place, str(clients[0]))
        if home is None or home == place:
            return None, set()
        view = self._neighbours[home].view
        if view is None:
            return home, set()
        here = self._neighbours[place].addresses
        live = {
            destination.inode
            for destination in view.destinations(1)
            if destination.port == subject.port and destination.address in here
        }
        return home, live

    def _told_client(self, place: int, finding: Finding, owners: Owners) -> Iterator[OtherEnd]:
        home, inodes = self._client(place, finding)
        clients = finding.evidence.get(facts.TOP_CLIENTS)
        if home is None or not isinstance(clients, list):
            return
        owner = _first_owner(inodes, owners)
        text = f"the busiest client, {clients[0]}, is {self._where(home)}"
        if owner is not None:
            text += f"; {owner.name} (pid {owner.pid}) has live connections there"
        yield OtherEnd(text, self._neighbours[home].label, owner)

    # Words.

    def _who(self, place: int, far: int, owner: Owner | None) -> str:
        """Return "leaky (pid 915) in web_1"; the namespace where it is another one."""
        name = f"{owner.name} (pid {owner.pid})" if owner else "a process"
        if far == place and owner:
            return name
        label = self._neighbours[far].label
        if label == name:  # a namespace that is called by its process
            return name
        return f"{name} on the host" if label == HOST_NETNS else f"{name} in {label}"

    def _where(self, home: int) -> str:
        neighbour = self._neighbours[home]
        where = "the host" if neighbour.label == HOST_NETNS else neighbour.label
        return where if neighbour.view else f"{where}, which was not looked at"


class _Far(NamedTuple):
    """Far ends that one process of one namespace holds."""

    place: int
    process: Owner | None
    accepted: bool
    sockets: int


def _state(finding: Finding) -> State | None:
    return None if finding.place is None else finding.place.state


def _belongs(view: View, socket: Socket, subject: ListenerSubject) -> bool:
    listener = view.listener_of(socket)
    return listener is not None and (listener.address, listener.port) == subject[:2]


def _first_owner(inodes: Iterable[int], owners: Owners) -> Owner | None:
    return next((owner for inode in inodes for owner in owners.get(inode, ())), None)


def _let_it_close(end: OtherEnd, finding: Finding) -> Advice:
    """Return the first advice where the end that has to close is on this host."""
    verify = finding.advice[0].verify if finding.advice else ""
    if end.process is not None:
        name, pid = end.process.name, end.process.pid
        see = f"see what it does instead: twdiag --all-netns --process {pid}"
        return Advice(f"Let {name} (pid {pid}) close its end", see, verify=verify)
    # Nobody holds a connection that was not accepted, and not every user sees who holds the others.
    see = "see what its process does instead of closing"
    if isinstance(finding.subject, (DestinationSubject, ListenerSubject)):
        see = f"{see}: twdiag --all-netns --port {finding.subject.port}"
    return Advice("Look at the other end, which is on this host", see, verify=verify)
