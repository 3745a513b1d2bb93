"""Name what findings are about: listeners with their processes, destinations, holders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model.findings import Advice, DestinationSubject, ListenerSubject, ProcessSubject
from twdiag.wording import endpoint, ss_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.analysis.half_closed import Holder
    from twdiag.analysis.view import View
    from twdiag.model.census import Destination, Listener
    from twdiag.model.snapshot import Owner


def listener_subject(view: View, listener: Listener) -> ListenerSubject:
    """Return a listener with the processes that were seen to hold it."""
    owners = view.owners_of(listener_inodes(listener))
    return ListenerSubject(listener.address, listener.port, owners)


def listener_inodes(*listeners: Listener) -> tuple[int, ...]:
    """Return the inodes of some listeners."""
    return tuple(s.inode for listener in listeners for s in listener.sockets if s.inode)


def listener_name(subject: ListenerSubject) -> str:
    """Return "nginx on 0.0.0.0:443", or the endpoint alone where no process was seen."""
    at = endpoint(subject.address, subject.port)
    return f"{subject.processes[0].name} on {at}" if subject.processes else f"the server on {at}"


def destination_subject(destination: Destination) -> DestinationSubject:
    """Return a destination as the subject of a finding."""
    return DestinationSubject(destination.source, destination.address, destination.port)


def owner_advice(subject: DestinationSubject) -> Advice:
    """Return how to find who makes the TIME_WAITs to a destination.

    The kernel keeps no owner of them, and a process with live connections there need not be it: a
    pool of old connections does not churn.
    """
    return Advice(
        "To find out who opens them: TIME_WAIT has no owner",
        f"watch new ones: ss -tnp dst {ss_address(subject.address)} dport = :{subject.port}",
    )


def holder_subject(holder: Holder) -> ProcessSubject:
    """Return the process of a holder, or what is known of it: its user's number."""
    if holder.owner is None:
        return ProcessSubject(None, "unseen process", f"uid {holder.uid}")
    return ProcessSubject(holder.owner.pid, holder.owner.name, holder.owner.user)


def software_advice(owners: Iterable[Owner], side: str, topic: str) -> tuple[Advice, ...]:
    """Return what is known of the processes' software on a topic, as advice; often nothing.

    `side` is "server" or "client".
    """
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
