"""Subjects of findings: listeners and their processes, destinations, holders, crowded processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twdiag.model import facts
from twdiag.model.findings import Advice, DestinationSubject, ListenerSubject, ProcessSubject
from twdiag.rules.rule import Group
from twdiag.tcp import State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sized

    from twdiag.analysis.half_closed import Holder
    from twdiag.analysis.view import View
    from twdiag.model.census import Destination, Listener
    from twdiag.model.findings import Value
    from twdiag.model.snapshot import Breakdown, Owner

K = TypeVar("K")
V = TypeVar("V", bound="Sized")

_MOST_KINDS = 2
_UNIX = "Unix sockets"


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


def owner_advice(port: int, what: str = "TIME_WAIT has no owner") -> Advice:
    """Return how to find which process closes the connections of a port, here or at a peer.

    The kernel keeps no owner of them, and a process with live connections there need not be it: a
    pool of old connections does not churn.
    """
    return Advice(
        f"Find out which process closes them ({what})",
        f"as root, watch them close: {trace_command(port)}",
    )


def crowded(view: View, least: float) -> Iterator[Group[Owner]]:
    """Yield the processes that use such a share of their descriptors: worth a closer look."""
    for owner in view.crowded:
        if owner.fds and owner.fd_limit and owner.fds >= least * owner.fd_limit:
            yield Group(owner, pids=(owner.pid,))


def most_first(groups: Mapping[K, V]) -> list[tuple[K, V]]:
    """Return the groups of something, the largest first: where many are alike, it is the worst."""
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def names_of(owners: Iterable[Owner]) -> list[str]:
    """Return the names of some processes, each once."""
    return list(dict.fromkeys(owner.name for owner in owners))


def trace_command(port: int, seconds: int = 10) -> str:
    """Return the command that shows each close of a port as it happens, and who closes."""
    return f"twdiag trace --port {port} --for {seconds}s"


def breakdown_evidence(breakdown: Breakdown | None) -> dict[str, Value]:
    """Return what descriptors are as evidence; nothing where that was not seen."""
    if breakdown is None:
        return {}
    kinds = dict(breakdown.kinds)
    return {
        facts.LOOKED: breakdown.looked,
        facts.ESTABLISHED: breakdown.states.get(State.ESTABLISHED, 0),
        facts.CLOSE_WAIT: breakdown.states.get(State.CLOSE_WAIT, 0),
        facts.OTHER_STATES: sum(breakdown.states.values())
        - sum(breakdown.states.get(s, 0) for s in (State.ESTABLISHED, State.CLOSE_WAIT)),
        facts.NOWHERE: None if breakdown.uncertain else breakdown.nowhere,
        **({facts.ELSEWHERE: breakdown.elsewhere} if breakdown.elsewhere else {}),
        facts.FILES: kinds.pop("file", 0),
        facts.PIPES: kinds.pop("pipe", 0),
        facts.OTHER_FDS: sum(kinds.values()),
    }


def breakdown_text(breakdown: Breakdown | None) -> str:
    """Return ", 110 of them in no table, 12 in ESTABLISHED": what most of the descriptors are."""
    if breakdown is None:
        return ""
    parts = [(number, f"in {state.name}") for state, number in breakdown.states.items()]
    where = "in no table that was looked at" if breakdown.hidden else "in no table"
    parts += [
        (breakdown.nowhere, f"sockets {where}"),
        (breakdown.elsewhere, "sockets of another network namespace"),
        (breakdown.uncertain, "sockets in no table that could be read"),
    ]
    parts += [(number, f"{kind}s") for kind, number in breakdown.kinds.items()]
    worth_telling = (part for part in parts if part[0] * 10 >= breakdown.looked)
    largest = sorted(worth_telling, reverse=True)[:_MOST_KINDS]
    path = f" of {breakdown.unix_path}" if breakdown.unix_path else ""
    return "".join(
        f", {number:,} {words}{path if words == _UNIX else ''}" for number, words in largest
    )


def holder_subject(holder: Holder) -> ProcessSubject:
    """Return the process of a holder, or what is known of it: its user's number."""
    if holder.owner is None:
        return ProcessSubject(None, "unseen process", f"uid {holder.uid}")
    return process_subject(holder.owner)


def process_subject(owner: Owner) -> ProcessSubject:
    """Return a process as the subject of a finding."""
    return ProcessSubject(owner.pid, owner.name, owner.user, owner.parent, owner.script)


def software_advice(owners: Iterable[Owner], side: str, topic: str) -> tuple[Advice, ...]:
    """Return what is known of the processes' software on a topic, as advice; often nothing.

    `side` is "server" or "client".
    """
    advice = (a for name in names_of(owners) for a in known_advice(name, side, topic))
    return tuple(dict.fromkeys(advice))


def known_advice(name: str, side: str, topic: str) -> tuple[Advice, ...]:
    """Return what is known on a topic of the software that a process of this name is."""
    from twdiag.software import find

    software = find(name)
    if software is None:
        return ()
    advice = []
    for statement in software.advice(side, topic):
        shown = statement.default in statement.text
        default = "" if shown or not statement.default else f" (default: {statement.default})"
        how = statement.change + default
        advice.append(Advice(f"{software.title}: {statement.text}", how, statement.cost))
    return tuple(advice)
