"""Name what findings are about: listeners with their processes, destinations, holders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import DestinationSubject, ListenerSubject, ProcessSubject
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.analysis.half_closed import Holder
    from twdiag.census.groups import Destination, Listener
    from twdiag.model import Advice, Owner, Snapshot


def listener_subject(snapshot: Snapshot, listener: Listener) -> ListenerSubject:
    """Return a listener with the processes that were seen to hold it."""
    return ListenerSubject(
        snapshot.sockets.addresses.text(listener.address),
        listener.port,
        listener_owners(snapshot, listener),
    )


def listener_owners(snapshot: Snapshot, listener: Listener) -> tuple[Owner, ...]:
    """Return the processes that hold a listener, each once."""
    owners: dict[int, Owner] = {}
    for inode in listener_inodes(snapshot, [listener]):
        owners.update({owner.pid: owner for owner in snapshot.owners.get(inode, ())})
    return tuple(owners.values())


def listener_inodes(snapshot: Snapshot, listeners: Iterable[Listener]) -> Iterator[int]:
    """Yield the inodes of some listeners."""
    for listener in listeners:
        for row in listener.rows:
            if snapshot.sockets.inode[row]:
                yield snapshot.sockets.inode[row]


def listener_name(subject: ListenerSubject) -> str:
    """Return "nginx on 0.0.0.0:443", or the endpoint alone where no process was seen."""
    at = endpoint(subject.address, subject.port)
    return f"{subject.processes[0].name} on {at}" if subject.processes else f"the server on {at}"


def destination_subject(snapshot: Snapshot, destination: Destination) -> DestinationSubject:
    """Return a destination with readable addresses."""
    text = snapshot.sockets.addresses.text
    return DestinationSubject(text(destination.source), text(destination.address), destination.port)


def client_owners(snapshot: Snapshot, destination: Destination) -> tuple[Owner, ...]:
    """Return the processes with live sockets to a destination: the likely makers of the rest."""
    owners: dict[int, Owner] = {}
    for inode in snapshot.flows.live_inodes(destination):
        owners.update({owner.pid: owner for owner in snapshot.owners.get(inode, ())})
    return tuple(owners.values())


def holder_subject(holder: Holder) -> ProcessSubject:
    """Return the process of a holder, or what is known of it: its user's number."""
    if holder.owner is None:
        return ProcessSubject(None, "unseen process", f"uid {holder.uid}")
    return ProcessSubject(holder.owner.pid, holder.owner.name, holder.owner.user)


def software_advice(owners: Iterable[Owner], side: str, topic: str) -> tuple[Advice, ...]:
    """Return what is known of the processes' software on a topic, as advice; often nothing.

    `side` is "server" or "client".
    """
    from twdiag.model import Advice
    from twdiag.software import find

    advice = []
    seen = set()
    for owner in owners:
        software = find(owner.name)
        if software is None or software.name in seen:
            continue
        seen.add(software.name)
        for statement in software.advice(side, topic):
            shown = statement.default in statement.text
            default = "" if shown or not statement.default else f" (default: {statement.default})"
            how = statement.change + default
            advice.append(Advice(f"{software.title}: {statement.text}", how, statement.cost))
    return tuple(advice)
