"""All about one local port: who is on it and until when, and whether it can be bound."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from twdiag.engine.binding import Attempt, Option, PortHolder, Verdict, attempts_at, holders_of
from twdiag.model.ports import format_ports, parse_ports, parse_range
from twdiag.model.snapshot import Gap
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twdiag.analysis.successors import Replaced
    from twdiag.engine.accepting import NotAccepting
    from twdiag.model.nat import Diversions
    from twdiag.model.snapshot import Owner
    from twdiag.sources.live.sockets.one_port import PortRow


_OWNER_SECONDS: Final = 5.0
_FIN_TIMEOUT: Final = "net.ipv4.tcp_fin_timeout"
_SYSCTLS: Final = (
    _FIN_TIMEOUT,
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
)


@dataclass(frozen=True, slots=True)
class PortReport:
    """All about one port.  What was not seen is None, with a gap; `nat` None is told without.

    `way_in` is what has to stand before a command that is to look into the namespace, "" for this
    process's own.  `nat_how` says what root lacks that could not see NAT, "" for others.
    `reservation` is ip_local_reserved_ports with this port added to what it has.  `unserved` tells
    of the processes that listen where none of them waits for connections, None where one does or
    that is not sure.  `replaced` are processes that have connections, and a listener no more.
    """

    port: int
    netns: str
    holders: tuple[PortHolder, ...]
    attempts: tuple[Attempt, ...]
    ephemeral: tuple[int, int] | None
    reserved: bool | None
    unprivileged_start: int | None
    gaps: tuple[Gap, ...] = ()
    way_in: str = ""
    nat: Diversions | None = None
    nat_how: str = ""
    reservation: str | None = None
    unserved: NotAccepting | None = None
    replaced: tuple[Replaced, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Whether a plain bind() of every address succeeds: the wildcards meet all sockets."""
        plain = {attempt.verdicts[Option.NONE] for attempt in self.attempts}
        return Verdict.FREE if plain == {Verdict.FREE} else Verdict.BLOCKED

    @property
    def taken_by_connect(self) -> bool | None:
        """Whether connect() may take the port for an outgoing connection, None unseen."""
        if self.ephemeral is None or self.reserved is None:
            return None
        return self.ephemeral[0] <= self.port <= self.ephemeral[1] and not self.reserved

    @property
    def free_in(self) -> float | None:
        """In how many seconds all are gone by themselves, None where a process has to end some."""
        ends = [holder.last_gone for holder in self.holders]
        return (
            max((end for end in ends if end is not None), default=0.0) if None not in ends else None
        )


def examine(
    port: int,
    rows: Iterable[PortRow],
    sysctls: Mapping[str, str],
    owners: Mapping[int, tuple[Owner, ...]] | None = None,
    gaps: Iterable[Gap] = (),
    netns: str = "host",
) -> PortReport:
    """Return all about a port from the sockets on it; pure."""
    timeout = sysctls.get(_FIN_TIMEOUT, "")
    holders = holders_of(rows, owners or {}, int(timeout) if timeout.isdecimal() else None)
    reserved = sysctls.get("net.ipv4.ip_local_reserved_ports")
    start = sysctls.get("net.ipv4.ip_unprivileged_port_start", "")
    return PortReport(
        port,
        netns,
        tuple(holders),
        tuple(attempts_at(holders)),
        parse_range(sysctls.get("net.ipv4.ip_local_port_range", "")),
        None
        if reserved is None
        else any(low <= port <= high for low, high in parse_ports(reserved)),
        int(start) if start.isascii() and start.isdigit() else None,
        tuple(gaps),
        reservation=None if reserved is None else _with_port(reserved, port),
    )


def _with_port(reserved: str, port: int) -> str:
    ports = {p for low, high in parse_ports(reserved) for p in range(low, high + 1)}
    return format_ports(ports | {port})


def look(port: int, netns: str | None = None) -> PortReport:
    """Return all about a port of this network namespace, or of the one that a word means."""
    if netns is None:
        return _look_here(port, "host")
    from twdiag.analysis.elsewhere import entering
    from twdiag.engine.netns import resolve
    from twdiag.sources.live.namespaces.entering import inside

    namespace = resolve(netns)
    report = inside(namespace, lambda: _look_here(port, namespace.label))
    return report if namespace.own else replace(report, way_in=entering(namespace))


def _look_here(port: int, netns: str) -> PortReport:
    from twdiag.engine.accepting import read_not_accepting, read_old_processes
    from twdiag.sources.live.processes.owners import read_owners
    from twdiag.sources.live.sockets.one_port import read_port, shows_bound

    gaps, rows = [], read_port(port)
    shown = any(row.socket.state is State.CLOSE for row in rows) or shows_bound()
    if not shown:
        why = "this kernel does not list sockets that are bound and neither listen nor connect"
        if shown is None:
            why = "sockets that are bound and neither listen nor connect may be unseen: "
            why += "no port is free here to try whether this kernel lists them"
        gaps.append(Gap("bound", why, "Linux 6.8 or later shows them", partial=True))
    inodes = {row.socket.inode for row in rows if row.socket.inode}
    owners, unseen = read_owners(inodes, (), {row.socket.uid for row in rows}, _OWNER_SECONDS)
    sysctls, missing = _read_sysctls()
    report = examine(port, rows, sysctls, owners, (*gaps, *unseen, *missing), netns)
    sockets = [row.socket for row in rows]
    unserved = read_not_accepting(sockets, owners)
    replaced = read_old_processes(sockets, owners)
    nat, how = _read_diversions(port)
    return replace(report, nat=nat, nat_how=how, unserved=unserved, replaced=replaced)


def _read_diversions(port: int) -> tuple[Diversions | None, str]:
    """Return where NAT leads connections to a port, None where that was not seen.

    Beside it, what root has to do to see it: whoever is not root has to become it.
    """
    from twdiag.errors import SourceError
    from twdiag.sources.live.netfilter.diversions import read_diversions

    try:
        return read_diversions(port), ""
    except SourceError as error:
        return None, error.next_step if os.geteuid() == 0 else ""


def _read_sysctls() -> tuple[dict[str, str], list[Gap]]:
    from twdiag.sources.live.proc import read_text

    found, gaps = dict[str, str](), []
    for name in _SYSCTLS:
        text = read_text("/proc/sys/" + name.replace(".", "/"))
        if text is None:
            gaps.append(Gap(name, f"{name} cannot be read", "mount /proc/sys", partial=True))
        else:
            found[name] = text.strip()
    return found, gaps
