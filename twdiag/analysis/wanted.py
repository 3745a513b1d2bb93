"""The rows of a live screen: what makes one the same in two frames, and which are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model.snapshot import Owner

RowKey = tuple["str | int | None", ...]
"""What makes a row the same row in two frames."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for: any of these ports, any of these processes (a name or a PID)."""

    ports: frozenset[int] = frozenset()
    processes: frozenset[str] = frozenset()

    def port(self, *ports: int) -> bool:
        """Return whether something about these ports is asked for."""
        return not self.ports or not self.ports.isdisjoint(ports)

    def process(self, *words: str) -> bool:
        """Return whether something about a process of these names and numbers is asked for."""
        return not self.processes or not self.processes.isdisjoint(words)

    @property
    def all(self) -> bool:
        """Whether everything is asked for."""
        return not self.ports and not self.processes


EVERYTHING: Final = Wanted()


def words_for(owners: Iterable[Owner]) -> tuple[str, ...]:
    """Return the words that mean any of these processes."""
    return tuple(word for owner in owners for word in (owner.name, str(owner.pid)))
