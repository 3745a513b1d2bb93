"""What the processes do that listen on a port while none of their threads waits for connections."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError
from twdiag.model.snapshot import Owner
from twdiag.model.waits import HALTED, Cause, EndRole
from twdiag.tcp import State
from twdiag.wording import duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twdiag.analysis.successors import Replaced
    from twdiag.engine.waits import WaitsAnswer
    from twdiag.model.sockets import Socket
    from twdiag.model.waits import Waits

_SECONDS: Final = 2.0
"""Of a look; a quarter of that is for the search for whoever may accept, 10 ms mostly."""
_OLD_SECONDS: Final = 0.5
_MOST_PROCESSES: Final = 8
_TELLING: Final = HALTED | {Cause.CHILD, Cause.DISK}
"""Causes that say more than what the threads do."""


@dataclass(frozen=True, slots=True)
class NotAccepting:
    """Processes that listen, and what they do at this moment instead of waiting for connections.

    `doing` says it in words.  `starter` is the parent that the socket can come from: it runs
    another program, and no connection was accepted.
    """

    owners: tuple[Owner, ...]
    doing: str
    starter: Owner | None = None


def read_not_accepting(
    sockets: Sequence[Socket], owners: Mapping[int, tuple[Owner, ...]]
) -> NotAccepting | None:
    """Return who listens where no thread waits for a connection, None where one does or may.

    `sockets` are those of a port, `owners` their processes.  The search for owners stops at the
    first one, a master mostly: its relatives are looked at too.
    """
    from twdiag.engine.waits import WaitsQuestion, host_names, look_closer
    from twdiag.sources.live.addresses import read_addresses

    listeners = {s.inode: s for s in sockets if s.state is State.LISTEN and s.inode in owners}
    found = tuple(sorted({owner for inode in listeners for owner in owners[inode]}))
    if not found:
        return None
    names = host_names(
        {(s.local_address, s.local_port): "" for s in listeners.values()}, read_addresses()
    )
    question = WaitsQuestion(tuple(owner.pid for owner in found), listeners)
    answers, gaps = look_closer({0: question}, names, _SECONDS)
    answer = answers.get(0)
    if gaps or answer is None or not _is_sure(answer.waits):
        return None
    connected = {s.inode for s in sockets if s.state is not State.LISTEN and s.inode in owners}
    return _told(found, answer, listeners, bool(connected))


def read_old_processes(
    sockets: Sequence[Socket], owners: Mapping[int, tuple[Owner, ...]]
) -> tuple[Replaced, ...]:
    """Return the processes that keep connections of a port whose listener others have now.

    Of very many processes some are looked at: each takes a search for who listens instead.
    """
    from twdiag.engine.waits import read_replaced

    known = [(s, owner.pid) for s in sockets for owner in owners.get(s.inode, ())]
    listeners = {s.inode for s, _ in known if s.state is State.LISTEN}
    listening = {pid for s, pid in known if s.state is State.LISTEN}
    held: dict[int, dict[int, Socket]] = {}
    for one, pid in known:
        if pid not in listening:
            held.setdefault(pid, {})[one.inode] = one
    deadline = time.monotonic() + _OLD_SECONDS
    told = (
        read_replaced(pid, held[pid], listeners, left)
        for pid in sorted(held)[:_MOST_PROCESSES]
        if (left := deadline - time.monotonic()) > 0
    )
    return tuple(one for one in told if one is not None)


def _is_sure(waits: Waits) -> bool:
    """Return whether nobody waits for connections: all was seen, and no thread has moved."""
    still = all(group.still == group.threads for group in waits.groups)
    return waits.watched == 0 and still and waits.conclusion is not None


def _told(
    owners: tuple[Owner, ...],
    answer: WaitsAnswer,
    listeners: Mapping[int, Socket],
    accepted: bool,
) -> NotAccepting:
    waits, conclusion = answer.waits, answer.waits.conclusion
    doing = waits.lines[0].partition("; still so ")[0] if waits.groups else ""
    if conclusion and conclusion.cause in _TELLING:
        doing = conclusion.sentence.removesuffix(": nobody calls accept()")
    first = waits.groups[0].end if waits.groups else None
    if first and first.role is EndRole.CLIENT and len(answer.clients) == 1:
        doing = doing.replace(" clients", f" its client {_client(answer.clients[0])}", 1)
    starter = None if accepted or len(owners) > 1 else _starter(owners[0], listeners)
    return NotAccepting(owners, doing, starter=starter)


def _client(served: Socket) -> str:
    """Return which client it is, and for how long it has sent nothing where that is seconds."""
    from twdiag.sources.live.sockets.netlink import read_established

    client = endpoint(served.remote_address, served.remote_port)
    silent = 0.0
    with contextlib.suppress(SourceError):
        for socket in read_established({served.inode}):
            silent = socket.info.last_data_recv / 1000 if socket.info else 0.0
    return f"{client}, which has sent nothing for {duration(silent)}" if silent >= 1 else client


def _starter(owner: Owner, listeners: Mapping[int, Socket]) -> Owner | None:
    """Return the parent that may have left a listener to a process, None where none has.

    A descriptor with close-on-exec set was opened by the program itself; init and systemd hand
    listeners out on purpose.
    """
    from twdiag.sources.live.processes.descriptors import executable_of, name_of, read_holders

    holders, _ = read_holders(listeners.keys(), [owner.pid], _SECONDS)
    held = [holding for found in holders.values() for holding in found]
    if not held or any(holding.cloexec is not False for holding in held):
        return None
    parent = held[0].parent
    name, program = name_of(parent), executable_of(parent)
    if parent <= 1 or name in ("", "systemd") or program in ("", held[0].executable):
        return None
    return Owner(parent, name, owner.user)
