"""Which process listens now where an old worker, after a reload, only ends what it has.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from twdiag.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

_DELETED: Final = " (deleted)"


class Worker(Protocol):
    """A process, as sources.live.descriptors.Holding has it."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def parent(self) -> int:
        """Its parent's number."""

    @property
    def started(self) -> int:
        """Its start in clock ticks since boot."""

    @property
    def executable(self) -> str:
        """The program it runs, "" where hidden."""


W = TypeVar("W", bound=Worker)


class Replaced(NamedTuple):
    """An old worker, and the process that listens on the port of its connections now."""

    pid: int
    name: str
    heir: int
    heir_name: str
    port: int

    @property
    def sentence(self) -> str:
        """Who listens instead, as a clause behind what is said of the old worker."""
        heir = f"{visible(self.heir_name)} (pid {self.heir})"
        return f"an old worker: {heir} listens on port {self.port} now"


def successor(worker: Worker, listening: Iterable[W]) -> W | None:
    """Return the oldest of the processes that took a listener over from a worker, None without one.

    `listening` are those that hold the listener of the worker's connections.  A master that hands
    connections to its workers is older than they are, and a child that serves one of them younger
    than its parent: neither is a successor.
    """
    found = list(listening)
    if any(other.pid == worker.pid for other in found):
        return None
    program = worker.executable.removesuffix(_DELETED)
    younger = (
        other
        for other in found
        if other.started > worker.started
        and other.parent != worker.pid
        and other.executable.removesuffix(_DELETED) == program
    )
    return min(younger, key=lambda other: (other.started, other.pid), default=None)
