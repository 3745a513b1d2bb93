"""The CLOSE_WAITs of a namespace by the program that holds them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.half_closed import CloseWaitKind, by_program

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from twdiag.analysis.half_closed import Holder, Waiting
    from twdiag.analysis.view import View
    from twdiag.analysis.wanted import RowKey, Wanted
    from twdiag.model.snapshot import Owner

_MOST: Final = 50
_PASSING: Final = 1.0
"""Seconds in which a program may close after the peer: its socket has no owner any more then."""


class Leak(NamedTuple):
    """The CLOSE_WAITs of one program: `grown` in so many seconds, None in the first frame.

    `age` is the least age of the oldest, None where it is not shown; `why` says why most wait.
    """

    name: str
    sockets: int
    grown: int | None
    seconds: float
    age: float | None
    why: str
    pids: tuple[int, ...] = ()
    user: str = ""


def leaks(view: View, wanted: Wanted, pending: Collection[int] = ()) -> dict[RowKey, Leak]:
    """Return the CLOSE_WAITs of each program, and of each accept queue, the most first.

    Those whose inode is `pending`, whose owner has not been looked for yet, are left out.
    """
    asked = [
        waiting
        for waiting in view.close_waits
        if waiting.socket.inode not in pending
        and wanted.port(waiting.socket.local_port, waiting.socket.remote_port)
    ]
    accepted = [
        waiting
        for waiting in asked
        if waiting.kind is not CloseWaitKind.NEVER_ACCEPTED and not _passes(waiting, view.owners)
    ]
    found: dict[RowKey, Leak] = {}
    for holder in by_program(view.owners, accepted):
        words = (holder.owner.name, *map(str, holder.pids)) if holder.owner else ()
        if wanted.process(*words):
            _add(found, _key(holder), _of_holder(holder))
    for waiting in asked:
        if waiting.kind is CloseWaitKind.NEVER_ACCEPTED and not wanted.processes:
            port = waiting.socket.local_port
            _add(found, ("queue", port), _leak(f"accept queue of port {port}", [waiting]))
    largest = sorted(found, key=lambda key: -found[key].sockets)[:_MOST]
    return {key: found[key] for key in largest}


def _passes(waiting: Waiting, owners: Mapping[int, Sequence[Owner]]) -> bool:
    """Return whether a socket is so young and ownerless that it was surely about to be closed."""
    young = waiting.age_min is not None and waiting.age_min < _PASSING
    return young and not owners.get(waiting.socket.inode)


def _key(holder: Holder) -> RowKey:
    """Return what stays the same of a program while its workers and their sockets change."""
    owner = holder.owner
    if owner is None:
        return "unseen", holder.uid
    # A worker's parent is the number of its master, whichever of them holds most.
    family = owner.parent if owner.parent and owner.parent > 1 else owner.pid
    return "program", owner.name, owner.user, family


def _of_holder(holder: Holder) -> Leak:
    user = holder.owner.user if holder.owner else f"uid {holder.uid}"
    return _leak(holder.name, holder.sockets)._replace(pids=holder.pids, user=user)


def _leak(name: str, sockets: Sequence[Waiting]) -> Leak:
    ages = [waiting.age_min for waiting in sockets if waiting.age_min is not None]
    why = Counter(waiting.kind for waiting in sockets).most_common(1)[0][0].value
    return Leak(name, len(sockets), None, 0.0, max(ages, default=None), why)


def _add(found: dict[RowKey, Leak], key: RowKey, leak: Leak) -> None:
    """Add sockets to those of their group."""
    known = found.get(key)
    if known is None:
        found[key] = leak
        return
    ages = [one.age for one in (known, leak) if one.age is not None]
    found[key] = known._replace(
        sockets=known.sockets + leak.sockets,
        age=max(ages, default=None),
        pids=(*known.pids, *leak.pids),
    )
