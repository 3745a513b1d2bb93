"""The contract of a rule: select what concerns it, then tell it with the owners looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twdiag.analysis.view import View
    from twdiag.model.findings import Finding
    from twdiag.model.limits import Limit, Limits
    from twdiag.rules.behind import RowsBehind

T = TypeVar("T")


class Group(Generic[T]):
    """What a rule selected, and what it would like to know of it.

    `inodes` are those of the sockets whose owners it would name, `pids` the processes whose
    descriptors it would tell apart.
    """

    def __init__(self, about: T, inodes: tuple[int, ...] = (), pids: tuple[int, ...] = ()) -> None:
        self.about = about
        self.inodes = inodes
        self.pids = pids


class Rule(Generic[T]):
    """One rule: a name that states the problem, its manual, and pure functions.

    `select` yields what concerns it; cheap, and called once.  `tell` gets each of these groups when
    the owners are known, and yields its findings: mostly one, but the sockets of a group may turn
    out to belong to several processes.  `rows` returns which rows stand behind the findings of a
    group, None where no row does.  None of them reads a clock or does any I/O.  `needs` names what
    must have been seen (keys of `Gap.what`); a need in the gaps makes a recorded skip.
    """

    def __init__(
        self,
        name: str,
        manual: str,
        select: Callable[[View, Limits], Iterator[Group[T]]],
        tell: Callable[[View, Limits, Group[T]], Iterator[Finding]],
        needs: tuple[str, ...] = ("sockets",),
        limits: tuple[Limit, ...] = (),
        rows: Callable[[View, Limits, Group[T]], RowsBehind] | None = None,
    ) -> None:
        self.name = name
        self.manual = manual
        self.select = select
        self.tell = tell
        self.needs = needs
        self.limits = limits
        self.rows = rows
