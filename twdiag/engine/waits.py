"""Look closer at the processes of a few findings: what they wait for, and what to run next.

To be called once owners are known.  A finding asks one Question; all are answered by one pair of
looks.  `check` asks none unless it is to explain itself (-vv).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from twdiag.analysis.inherited import main_child, tell_inherited
from twdiag.analysis.successors import Replaced, successor
from twdiag.analysis.upstreams import EndNames, parse_hosts
from twdiag.analysis.waits import tell_waits
from twdiag.analysis.waits.case import is_idle, watched_sockets
from twdiag.analysis.waits.commands import commands_for, of_old_worker
from twdiag.model.snapshot import Gap
from twdiag.model.waits import HALTED, Cause, FdKind, NextCommand
from twdiag.software import find
from twdiag.software.runtimes import next_commands
from twdiag.sources.live.proc import read_bytes
from twdiag.sources.live.processes.descriptors import (
    descriptors,
    namesakes,
    protocol,
    read_holders,
    read_parents,
    related,
)
from twdiag.sources.live.processes.other_sockets import read_others
from twdiag.sources.live.processes.runtime import read_runtime
from twdiag.sources.live.processes.threads import is_vfork
from twdiag.sources.live.processes.unix_peers import unix_peers
from twdiag.sources.live.processes.waits import read_waits, wanted_inodes
from twdiag.sources.live.sockets.netlink import find_sockets
from twdiag.tcp import State
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Set

    from twdiag.analysis.inherited import Inherited
    from twdiag.model.sockets import Socket
    from twdiag.model.waits import Conclusion, Descriptor, ProcessWaits, Waits
    from twdiag.software.runtimes import Runtime

K = TypeVar("K")

SECONDS: Final = 0.5
"""What a look takes at most; 500 processes of 4 threads take 0.35 s, 0.1 s of it pause."""

_SEARCH: Final = 0.2
"""Seconds that searches for successors of old workers may take beyond the rest: they are rare."""
_FAR_ENDS: Final = 0.1
"""Seconds that the search for the other ends of Unix sockets may take in any case."""
_MOST_PROCESSES: Final = 500
_MOST_SOCKETS: Final = 10_000
_MOST_PAIRS: Final = 256
"""Among how many sockets of a process, the oldest, the pairs are sought: made at the start."""
_STREAMS: Final = range(3)
_MOST_CHILDREN: Final = 8
"""Of how many children that is asked, those with the most sockets first."""

_BEFORE_A_RELOAD: Final = HALTED | {Cause.INHERITED}
"""Causes that tell more of an old worker than that it is one."""


class WaitsQuestion(NamedTuple):
    """What a finding wants to know: the processes that hold its sockets, the one with most first.

    `concerned` are its sockets by inode: CLOSE_WAITs, idle ones, or the listeners whose queue is
    full.  `listeners` are the inodes of the listeners of these connections: a child that holds a
    connection and not its parent's listener can have inherited it.
    """

    pids: tuple[int, ...]
    concerned: Mapping[int, Socket]
    listeners: frozenset[int] = frozenset()


class WaitsAnswer(NamedTuple):
    """What the processes wait for, and what to run next for the first of them, the best first.

    `replaced` tells who listens now where the first does no more: an old worker after a reload.
    `child` inherited most of the sockets.  `clients` are the connections of this host's listeners
    that threads wait for.
    """

    waits: Waits
    commands: tuple[NextCommand, ...]
    replaced: Replaced | None = None
    child: Inherited | None = None
    clients: tuple[Socket, ...] = ()


def look_closer(
    questions: Mapping[K, WaitsQuestion], names: EndNames, seconds: float = SECONDS
) -> tuple[dict[K, WaitsAnswer], list[Gap]]:
    """Return the answers to some findings' questions, and what could not be seen.

    A question whose processes are all gone has no answer.  Reads only; signals and stops nobody.
    """
    until = time.monotonic() + seconds
    parents = read_parents()
    questions, sought = _with_workers(questions, parents, seconds / 4)
    pids = list(dict.fromkeys(pid for asked in questions.values() for pid in asked.pids))
    inodes = {inode for asked in questions.values() for inode in asked.concerned}
    found, gaps = read_waits(pids[:_MOST_PROCESSES], inodes, seconds)
    left_out = frozenset(pids[_MOST_PROCESSES:])
    # The rest costs little, and without it the look was in vain.
    rows, whole = _rows_of(wanted_inodes(found) - inodes, max(0.1, until - time.monotonic()))
    left = max(_FAR_ENDS, (until - time.monotonic()) / 2)
    others = read_others(found.values(), inodes | rows.keys(), left)
    if not whole:
        others = {i: other for i, other in others.items() if not other.protocol.startswith("TCP")}
    names = replace(names, others=others)
    answers = {}
    for key, asked in questions.items():
        seen = [found[pid] for pid in asked.pids if pid in found]
        some_missed = not sought and _listeners_of(asked)
        if some_missed or not left_out.isdisjoint(asked.pids):  # one more may serve them
            seen = [replace(process, whole=False) for process in seen]
        if seen:
            children, replaced = _before(asked, seen, parents, until)
            answers[key] = _answer(asked, seen, rows, names, children, replaced)
    return answers, [*gaps, *_too_many(len(left_out))]


def _too_many(processes: int) -> Iterator[Gap]:
    """Yield the gap of processes that nobody looked at, if there are any."""
    if processes:
        many = count(processes, "more process waits", "more processes wait")
        why = f"what {many} for was not looked at"
        yield Gap("waits", why, "look at one of them: twdiag --process NAME", partial=True)


def _before(
    asked: WaitsQuestion, seen: list[ProcessWaits], parents: Mapping[int, int], until: float
) -> tuple[tuple[Inherited, ...], Replaced | None]:
    """Return the children that inherited the sockets of a question, and the heir of an old worker.

    Nothing where the time is over.
    """
    if time.monotonic() > until + _SEARCH:
        return (), None
    children = _inherited(asked, seen, parents, max(0.05, until - time.monotonic()))
    left = max(0.05, until + _SEARCH - time.monotonic())
    replaced = _replaced(asked, seen[0].pid, left)
    told = (c for c in children if not (_accepted_itself(c, replaced) or _vforked(c, seen)))
    return tuple(told), replaced


def _accepted_itself(child: Inherited, replaced: Replaced | None) -> bool:
    """Return whether a child is an old worker: it has no listener any more, and once had one."""
    return replaced is not None and replaced.pid == child.child and child.by_exec is False


def _vforked(child: Inherited, seen: Iterable[ProcessWaits]) -> bool:
    """Return whether a child only has everything of its parent until it calls exec()."""
    threads = (thread for process in seen for thread in process.threads)
    return any(t.child == child.child and is_vfork(t.channel) for t in threads)


def _rows_of(inodes: set[int], seconds: float) -> tuple[dict[int, Socket], bool]:
    """Return the sockets of these inodes, and whether there was time to look at all tables."""
    until = time.monotonic() + seconds
    return find_sockets(inodes, seconds), time.monotonic() < until


def _with_workers(
    questions: Mapping[K, WaitsQuestion], parents: Mapping[int, int], seconds: float
) -> tuple[dict[K, WaitsQuestion], bool]:
    """Return questions about listeners with all that could accept, and whether all were sought.

    The search for owners stops at the first one, a master mostly, which leaves that to its workers.
    Relatives are searched first; who was handed a listener, or has left its parent, is none.
    """
    listeners = {key: _listeners_of(asked) for key, asked in questions.items()}
    sought = frozenset().union(*listeners.values())
    if not sought:
        return dict(questions), True
    near = [pid for key, asked in questions.items() if listeners[key] for pid in asked.pids[:1]]
    kin = dict.fromkeys(pid for one in dict.fromkeys(near) for pid in related(one, parents))
    holders, whole = read_holders(sought, dict.fromkeys((*kin, *parents)), seconds)
    widened = {}
    for key, asked in questions.items():
        pids = {holder.pid for inode in listeners[key] for holder in holders.get(inode, ())}
        widened[key] = asked._replace(pids=tuple(dict.fromkeys((*asked.pids, *sorted(pids)))))
    return widened, whole


def _listeners_of(asked: WaitsQuestion) -> frozenset[int]:
    return frozenset(inode for inode, row in asked.concerned.items() if row.state is State.LISTEN)


def _answer(
    asked: WaitsQuestion,
    seen: list[ProcessWaits],
    rows: Mapping[int, Socket],
    names: EndNames,
    children: tuple[Inherited, ...],
    replaced: Replaced | None,
) -> WaitsAnswer:
    first = read_runtime(seen[0].pid)
    if first:
        seen = [_programs_own(process, first.runtime) for process in seen]
    waits = tell_waits(seen, asked.concerned, rows, names, children)
    if waits.conclusion and waits.conclusion.cause is Cause.FORGOTTEN:
        waits = _by_design(waits, waits.conclusion, seen)
    child = main_child(children, len(asked.concerned))
    commands = commands_for(waits, seen, children)
    if replaced and not (waits.conclusion and waits.conclusion.cause in _BEFORE_A_RELOAD):
        commands = of_old_worker(replaced)
    if not commands:
        shown = waits.pid or seen[0].pid
        runtime = first if shown == seen[0].pid else read_runtime(shown)
        commands = next_commands(runtime.runtime, runtime.place, runtime.symbols) if runtime else ()
    return WaitsAnswer(waits, commands, replaced, child, _clients(seen, rows, names))


def _clients(
    seen: list[ProcessWaits], rows: Mapping[int, Socket], names: EndNames
) -> tuple[Socket, ...]:
    """Return the connections that threads wait for and listeners of this host serve."""
    waited = (rows[inode] for inode in sorted(_waited(seen)) if inode in rows)
    connected = (row for row in waited if row.state is not State.LISTEN)
    return tuple(row for row in connected if names.serves(row.local_address, row.local_port))


def _waited(seen: list[ProcessWaits]) -> set[int]:
    return wanted_inodes({process.pid: process for process in seen})


def _programs_own(process: ProcessWaits, runtime: Runtime) -> ProcessWaits:
    """Return a process without the idle threads of its runtime, which run none of its code."""
    kept = tuple(
        thread
        for thread in process.threads
        if not (is_idle(thread) and runtime.owns(thread.name, thread.tid == process.pid))
    )
    return replace(process, threads=kept)


def _by_design(waits: Waits, forgotten: Conclusion, seen: list[ProcessWaits]) -> Waits:
    """Return the waits of a program that is known to keep sockets without watching them."""
    software = find(seen[0].name)
    statements = software.advice("server", "close-wait") if software else ()
    for statement in statements:
        if software and statement.by_design:
            text = f"{software.title} {statement.by_design}: it is not stuck"
            kept = forgotten._replace(cause=Cause.CONFIGURED, sentence=text)
            return replace(waits, conclusion=kept)
    return waits


def _inherited(
    asked: WaitsQuestion, seen: list[ProcessWaits], parents: Mapping[int, int], seconds: float
) -> tuple[Inherited, ...]:
    """Return the children that hold the question's connections by accident.

    Workers share their master's listener on purpose, so that nothing is asked about listeners.
    """
    connections = {i for i, row in asked.concerned.items() if row.state is not State.LISTEN}
    if not connections or len(connections) > _MOST_SOCKETS:
        return ()
    sought = connections | asked.listeners
    holders, _ = read_holders(sought, related(asked.pids[0], parents), seconds)
    masters = [holder for inode in asked.listeners for holder in holders.pop(inode, ())]
    programs = {master.pid: master.executable for master in masters}
    names = {master.pid: master.name for master in masters}
    watched, _ = watched_sockets(seen, connections)
    told = tell_inherited(holders, programs.keys(), watched, programs, names)
    few = told[:_MOST_CHILDREN]
    return tuple(c for c in few if not c.left or not _hands_over(c.parent, c.child, seconds))


def _replaced(asked: WaitsQuestion, pid: int, seconds: float) -> Replaced | None:
    """Return which process has taken over the listener of a process's connections, if one has."""
    connections = {i: row for i, row in asked.concerned.items() if row.state is not State.LISTEN}
    return read_replaced(pid, connections, asked.listeners, seconds)


def read_replaced(
    pid: int, connections: Mapping[int, Socket], listeners: Set[int], seconds: float
) -> Replaced | None:
    """Return which process has one of the listeners that this one, with connections, has no more.

    Keys are inodes.  None where it listens itself, or where it never did: a child of a master.
    """
    if not connections or not listeners or len(connections) > _MOST_SOCKETS:
        return None
    own, _ = read_holders(connections.keys() | listeners, [pid], seconds / 2)
    held = [holding for inode in connections for holding in own.get(inode, ())]
    if not held or not listeners.isdisjoint(own):
        return None
    # The youngest first: a successor is younger.
    namesake = sorted(namesakes(held[0].name), reverse=True)
    others, _ = read_holders(listeners, namesake, seconds)
    heir = successor(held[0], (holding for found in others.values() for holding in found))
    above = (heir.parent, held[0].parent) if heir else ()
    if heir is None or _hands_over(heir.pid, pid, seconds, above):
        return None
    port = next(iter(connections.values())).local_port
    return Replaced(pid, held[0].name, heir.pid, heir.name, port)


def _hands_over(giver: int, taker: int, seconds: float, above: tuple[int, ...] = ()) -> bool:
    """Say whether a process may hand connections that it accepted to another one.

    They share a Unix socket pair then (SCM_RIGHTS), beside standard streams: so do the primary of a
    Node.js cluster and its workers.  Of the pairs between nginx's workers, which carry no
    connections, their master has an end too: it is `above`.
    """
    own: list[Descriptor] = []
    with contextlib.suppress(OSError):  # it is gone
        own = _oldest(descriptors(taker))
    unix = (d for d in own if (protocol(taker, d.number) or b"").startswith(b"UNIX"))
    ends = unix_peers(d.inode for d in unix if d.inode is not None)
    holders, _ = read_holders(frozenset(ends.values()), {giver, *above}, seconds)
    return any({one.pid for one in found} == {giver} for found in holders.values())


def _oldest(found: Iterable[Descriptor]) -> list[Descriptor]:
    """Return the sockets with the lowest numbers but those of standard streams."""
    sockets = (d for d in found if d.kind is FdKind.SOCKET and d.number not in _STREAMS)
    return sorted(sockets, key=lambda one: one.number)[:_MOST_PAIRS]


def host_names(listeners: Mapping[tuple[str, int], str], local: Collection[str] = ()) -> EndNames:
    """Return the names that /etc/hosts and this host's listeners give to ends.

    `listeners` maps (address, port) of every listener to its owner's name, "" where not seen;
    `local` are this host's addresses besides loopback.
    """
    try:
        hosts = parse_hosts(read_bytes("/etc/hosts").decode("utf-8", "replace"))
    except OSError:
        hosts = {}
    return EndNames(hosts, listeners, frozenset(local))
