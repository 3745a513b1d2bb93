"""Which processes hold a socket only because they inherited its descriptor.

fork() copies every descriptor, and exec() keeps those without FD_CLOEXEC: close() in the parent
then sends no FIN, and the connection stays until the child ends (KERNEL P).  Pure.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twdiag.model.findings import Confidence
from twdiag.wording import count, visible

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class DescriptorHolder(Protocol):
    """A process that holds a descriptor, as sources.live.processes.descriptors.Holding has it."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def parent(self) -> int:
        """Its parent's number."""

    @property
    def name(self) -> str:
        """Its name, text from outside."""

    @property
    def executable(self) -> str:
        """The program it runs, "" where hidden."""


class Inherited(NamedTuple):
    """A child that holds sockets of its parent.

    `shared` of the `sockets` the parent still holds too; `confidence` is OBSERVED where all are,
    INFERRED where only the parent's listener tells whose connections they were.  `by_exec` says
    whether the child runs another program than its parent, so that close-on-exec would have helped;
    None where that is hidden.
    """

    child: int
    name: str
    parent: int
    sockets: int
    shared: int
    confidence: Confidence
    sentence: str
    parent_name: str = ""
    by_exec: bool | None = None

    @property
    def left(self) -> int:
        """How many the parent has closed: they live by the child alone."""
        return self.sockets - self.shared

    @property
    def is_alone(self) -> bool:
        """Whether the parent has closed most of them: what it still holds, it has to close."""
        return 2 * self.left > self.sockets


def main_child(inherited: Sequence[Inherited], sockets: int) -> Inherited | None:
    """Return the child that inherited most of so many sockets, None where none did."""
    return inherited[0] if inherited and 2 * inherited[0].sockets > sockets else None


def tell_inherited(
    holders: Mapping[int, Sequence[DescriptorHolder]],
    listener_pids: Collection[int] = (),
    watched: Collection[int] = (),
    executables: Mapping[int, str] | None = None,
    listener_names: Mapping[int, str] | None = None,
) -> tuple[Inherited, ...]:
    """Return the children that inherited sockets, the one with the most of them first.

    `holders` maps a socket's inode to every process that holds it; `listener_pids` are the
    processes that hold the listener of these connections; `watched` the inodes that somebody
    watches or reads; `executables` and `listener_names` the programs and names of the listeners'
    processes.  A server that forks for each connection gives it to a child on purpose: that child
    reads it, or runs the same program and holds just this one.
    """
    shared: Counter[tuple[int, int]] = Counter()
    alone: Counter[tuple[int, int]] = Counter()
    names = dict(listener_names or {})
    programs = dict(executables or {})
    for inode, processes in holders.items():
        pids = {process.pid for process in processes}
        for process in processes:
            names[process.pid] = process.name
            programs.setdefault(process.pid, process.executable)
            pair = (process.pid, process.parent)
            if process.parent in pids:
                shared[pair] += 1
            elif inode not in watched and process.parent in listener_pids:
                alone[pair] += process.pid not in listener_pids
    found = [
        _told(pair, names, shared[pair], alone[pair])._replace(by_exec=_by_exec(pair, programs))
        for pair in shared | alone
        if shared[pair] or _is_odd(pair, alone[pair], programs)
    ]
    return tuple(sorted(found, key=lambda one: (-one.sockets, one.child)))


def _is_odd(pair: tuple[int, int], alone: int, programs: Mapping[int, str]) -> bool:
    """Say whether a child that is the only holder was hardly meant to serve the connections."""
    return alone > 1 or (alone == 1 and _by_exec(pair, programs) is True)


def _by_exec(pair: tuple[int, int], programs: Mapping[int, str]) -> bool | None:
    """Say whether a child runs another program than its parent, None where one is hidden."""
    child, parent = (programs.get(pid, "") for pid in pair)
    return child != parent if child and parent else None


def _told(pair: tuple[int, int], names: Mapping[int, str], shared: int, alone: int) -> Inherited:
    child, parent = pair
    name, sockets = names[child], shared + alone
    who = f"{visible(name)} (pid {child}) inherited {count(sockets, 'socket')} of pid {parent}"
    if alone == 0:
        text = f"{who}: a close() there sends no FIN while the child lives"
        sure = Confidence.OBSERVED
    else:
        some = f"{alone} of them" if shared else "it" if alone == 1 else "them"
        text = f"{who}, which closed {some}: no FIN was sent"
        sure = Confidence.INFERRED
    parent_name = names.get(parent, "")
    return Inherited(child, name, parent, sockets, shared, sure, text, parent_name)
