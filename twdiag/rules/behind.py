"""Which rows stand behind a finding: tests of single sockets that the rules share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import identity
from twdiag.model.findings import DestinationSubject, ListenerSubject, PortSubject, ProcessSubject
from twdiag.named import NamedTuple
from twdiag.tcp import State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twdiag.analysis.view import View
    from twdiag.model.census import Destination, Listener
    from twdiag.model.findings import Finding
    from twdiag.model.sockets import Socket


class RowsBehind(NamedTuple):
    """The rows behind a finding: those that `fits` takes, and all that the processes hold."""

    fits: Callable[[Socket], bool]
    pids: frozenset[int] = frozenset()


def these(sockets: Iterable[Socket]) -> RowsBehind:
    """Return the rows of sockets that were kept one by one, as long as they are in their state."""
    known = {(socket.state, *identity(socket)) for socket in sockets}
    return RowsBehind(lambda socket: (socket.state, *identity(socket)) in known)


def held_by(pids: Iterable[int]) -> RowsBehind:
    """Return all rows that some processes hold."""
    return RowsBehind(lambda _: False, frozenset(pids))


def in_states(*states: State) -> RowsBehind:
    """Return all rows in some states."""
    return RowsBehind(lambda socket: socket.state in states and not socket.bound)


def of_listener(view: View, listener: Listener, *states: State) -> RowsBehind:
    """Return the connections of a listener in some states."""
    return RowsBehind(
        lambda socket: socket.state in states and view.listener_of(socket) == listener
    )


def of_destination(view: View, destination: Destination, *states: State) -> RowsBehind:
    """Return the connections that this host made to a destination, in some states or all."""
    ends = destination.source, destination.address, destination.port
    wanted = frozenset(states or State) - {State.LISTEN}

    def fits(socket: Socket) -> bool:
        return (
            socket.state in wanted
            and (socket.local_address, socket.remote_address, socket.remote_port) == ends
            and view.is_client(socket)
        )

    return RowsBehind(fits)


def narrowed(finding: Finding) -> list[str]:
    """Return the options that tell the rows of a finding from those of others of its rule."""
    subject = finding.subject
    if isinstance(subject, DestinationSubject):
        return ["--peer", endpoint(subject.address, subject.port)]
    if isinstance(subject, (ListenerSubject, PortSubject)):
        return ["--port", str(subject.port)]
    if isinstance(subject, ProcessSubject) and subject.pid is not None:
        # Workers of one program are told of together, by the name that they share.
        return ["--process", subject.name if len(finding.pids) > 1 else str(subject.pid)]
    return []
