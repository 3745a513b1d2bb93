"""What `twdiag sockets` does: hand out rows one after the other, those that filters leave."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.analysis.row import CLOSED_FIRST, age_of, left_of, side_of
from twdiag.analysis.view import View
from twdiag.census.listeners import listeners_of
from twdiag.engine.row_filter import BOUND_WORD, Filter, owned_by, parse_peer, parse_states
from twdiag.engine.socket_rows import SocketRow, ordered
from twdiag.errors import SourceError, TwdiagError, UsageError, refuse_both
from twdiag.model.census import Census
from twdiag.model.limits import nearest
from twdiag.model.snapshot import HOST_NETNS, Gap, Host, Owner, Snapshot
from twdiag.sources.live import rights
from twdiag.tcp import State
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twdiag.model.limits import Limits
    from twdiag.model.namespaces import Container, Namespace
    from twdiag.model.sockets import Socket
    from twdiag.rules.behind import RowsBehind
    from twdiag.rules.rule import Rule
    from twdiag.sources.live.sockets.seen import Streamed

_FIN_TIMEOUT: Final = "net.ipv4.tcp_fin_timeout"
_SYSCTLS: Final = (
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    _FIN_TIMEOUT,
)
_CONCERNS: Final[Mapping[str, frozenset[State | str]]] = {
    "bind-mode": frozenset(),
    "backlog": frozenset({State.LISTEN}),
    "bound": frozenset({BOUND_WORD}),
    "tcp-info": frozenset({State.CLOSE_WAIT, State.FIN_WAIT2}),
    "mptcp": frozenset({State.CLOSE_WAIT, State.FIN_WAIT2}),
}
"""Which states a gap is about; all others are about every state."""


class SocketsRequest(NamedTuple):
    """What the user asked for, in the words of the command line."""

    states: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    peers: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    netns: tuple[str, ...] = ()
    all_netns: bool = False
    sort: str | None = None
    top: int | None = None
    source: str = "auto"
    limits: tuple[str, ...] = ()
    config: str | None = None


class Listing:
    """The rows of a request, and once they were taken, what was not seen.

    Raises UsageError where the request makes no sense.
    """

    def __init__(self, request: SocketsRequest) -> None:
        self._request = request
        self._filter = Filter(
            parse_states(request.states),
            frozenset(request.ports),
            tuple(map(parse_peer, request.peers)),
        )
        self._processes = frozenset(request.processes)
        self._rules, self._limits, self.notes = _judging(request)
        self._owners = _Owners()
        self._gaps: list[Gap] = []
        self._unseen = self._taken = 0
        self.several = request.all_netns or len(request.netns) > 1
        """Whether rows of more than one namespace can be among them."""
        if self._processes and self._filter.states == {State.TIME_WAIT}:
            what = "--process finds no TIME_WAIT: the kernel keeps no owner of them"
            raise UsageError(what, "choose them by --port or --peer")
        refuse_both({"--netns": request.netns, "--all-netns": request.all_netns})

    def rows(self) -> Iterator[SocketRow]:
        """Yield the rows; raises TwdiagError where they cannot be read."""
        yield from ordered(self._without_gaps(), self._request.sort, self._request.top)

    def _without_gaps(self) -> Iterator[SocketRow]:
        for item in self._everywhere():
            if isinstance(item, Gap):
                self._gaps.append(item)
                continue
            self._taken += 1
            self._unseen += item.owners is None
            yield item

    @property
    def gaps(self) -> list[Gap]:
        """What was not seen; complete once all rows were taken."""
        found = list(dict.fromkeys(self._gaps))
        return [*found, self._owners.gap(self._unseen)] if self._unseen else found

    @property
    def why_empty(self) -> str:
        """Why there is no row, once all were taken; "" where there was one."""
        if self._taken:
            return ""
        if self._rules:
            named = ", ".join(rule.name for rule in self._rules)
            return f"{named} {'finds' if len(self._rules) == 1 else 'find'} no such socket"
        if self._processes:
            near = nearest(sorted(self._processes)[0], self._owners.names)
            return f"no such socket of {', '.join(sorted(self._processes))} is visible{near}"
        return "no such socket"

    def _everywhere(self) -> Iterator[SocketRow | Gap]:
        """Yield the rows of each namespace asked for, and the gaps."""
        if not self.several and not self._request.netns:
            yield from self._here(HOST_NETNS)
            return
        from twdiag.sources.live.namespaces.entering import Refused, Vanished, stream_inside
        from twdiag.sources.live.namespaces.going_round import Visit, left_out

        left = list[Visit[None]]()
        for namespace in self._namespaces():
            try:
                yield from stream_inside(namespace, partial(self._here, namespace.label))
            except TwdiagError as error:
                if self._request.netns or namespace.own or isinstance(error, UsageError):
                    raise
                rights, gone = isinstance(error, Refused), isinstance(error, Vanished)
                why = "rights" if rights else "gone" if gone else error.what
                left.append(Visit(namespace, None, why))
        yield from left_out(left)

    def _namespaces(self) -> list[Namespace]:
        from twdiag.engine.netns import resolve
        from twdiag.model.namespaces import by_business
        from twdiag.sources.live.namespaces.search import find_namespaces

        if not self._request.all_netns:
            meant = map(resolve, self._request.netns)
            return list({(n.table, n.inode, n.label): n for n in meant}.values())
        found = find_namespaces()
        self._gaps += found.gaps
        return by_business(found.namespaces)

    def _here(self, netns: str) -> Iterator[SocketRow | Gap]:
        """Yield the rows of the namespace that this process is in, and what was not seen of it."""
        from twdiag.sources.live.proc import read_sysctls

        behind = _Behind(self._behind()) if self._rules else None
        sysctls, gaps = read_sysctls(_SYSCTLS)
        streamed = self._read(gaps)
        view = _view_of(streamed.listening, sysctls)
        backlogs = all(gap.what != "backlog" for gap in gaps)
        for socket in itertools.chain(*streamed):
            if self._filter.takes(socket) and self._is_wanted(socket, behind):
                yield self._row(socket, view, netns, backlogs)
        for gap in filter(self._matters, gaps):
            if gap.what == "bound" and self._filter.states == {BOUND_WORD}:
                raise SourceError(gap.why, gap.how)  # else no row would mean that there is none
            yield gap

    def _is_wanted(self, socket: Socket, behind: _Behind | None) -> bool:
        """Return whether the rules and the processes asked for have to do with a socket."""
        if behind is not None and not behind.has(socket, self._owners):
            return False
        return not self._processes or owned_by(self._owners.of(socket), self._processes)

    def _row(self, socket: Socket, view: View, netns: str, backlogs: bool) -> SocketRow:
        owners = self._owners.of(socket)
        return SocketRow(
            socket,
            side_of(view, socket),
            None if socket.bound else CLOSED_FIRST[socket.state],
            age_of(socket, view.sysctl(_FIN_TIMEOUT)),
            left_of(socket, view.sysctl(_FIN_TIMEOUT)),
            socket.send_q if backlogs or socket.state is not State.LISTEN else None,
            owners,
            self._owners.container(owners[0].pid) if owners else None,
            netns,
        )

    def _read(self, gaps: list[Gap]) -> Streamed:
        """Return the sockets by the source asked for; auto is netlink, then /proc."""
        from twdiag.sources.live.proc import parse_sockstat, read_text
        from twdiag.sources.live.sockets.proc_tcp import stream_proc
        from twdiag.sources.live.sockets.streaming import stream_netlink

        source = self._request.source
        if source == "proc":
            return stream_proc(gaps)
        sockstat = parse_sockstat(read_text("/proc/net/sockstat") or "")
        sockstat.update(parse_sockstat(read_text("/proc/net/sockstat6") or ""))
        if BOUND_WORD in self._filter.states:
            sockstat["TCP.tw"] = 0  # whoever asks for bound sockets pays for the walk
        try:
            return stream_netlink(self._filter.bits, sockstat, gaps, self._filter.ports)
        except SourceError as error:
            if source == "netlink":
                raise
            why = f"{error.what}; /proc/net/tcp was read instead"
            gaps.append(Gap("netlink", why, error.next_step))
            return stream_proc(gaps)

    def _behind(self) -> list[RowsBehind]:
        """Return which rows stand behind what the rules find in this namespace."""
        from twdiag import sources
        from twdiag.rules import runner

        snapshot = sources.collect(self._request.source, 1.0)
        selection = runner.select(View(snapshot), self._limits, self._rules)
        for skip in selection.skipped:
            raise SourceError(f"{skip.rule} cannot look: {skip.reason}", skip.how)
        owners, gaps = sources.find_owners(snapshot, selection.inodes)
        breakdowns, more_gaps = sources.break_down(snapshot, selection.pids)
        view = selection.view.with_owners(owners, (*gaps, *more_gaps), breakdowns)
        return runner.rows_behind(selection, view)

    def _matters(self, gap: Gap) -> bool:
        """Return whether a gap is about the states asked for."""
        states, concerned = self._filter.states, _CONCERNS.get(gap.what)
        if concerned is None:
            return True
        return bool(concerned & states) if states else bool(concerned)


class _Behind:
    """The rows behind what several rules find."""

    def __init__(self, rows: list[RowsBehind]) -> None:
        self._fits = [one.fits for one in rows]
        self._pids = frozenset[int]().union(*(one.pids for one in rows))

    def has(self, socket: Socket, owners: _Owners) -> bool:
        """Return whether a socket is among them."""
        if any(fits(socket) for fits in self._fits):
            return True
        held = owners.of(socket) if self._pids else ()
        return any(owner.pid in self._pids for owner in held or ())


class _Owners:
    """Who holds a socket and what runs them, each looked up once."""

    def __init__(self) -> None:
        from twdiag.sources.live.processes.owners import Holders

        self._holders = Holders()
        self._containers: dict[int, Container | None] = {}

    def of(self, socket: Socket) -> tuple[Owner, ...] | None:
        """Return the owners of a socket, None where they were not seen."""
        if not socket.inode:
            return ()
        return self._holders.of(socket.inode) or None

    @property
    def names(self) -> set[str]:
        """The names of the processes that were seen to hold one."""
        return {owner.name for owner in self._holders.named}

    def container(self, pid: int) -> Container | None:
        """Return the container or the unit of systemd that a process belongs to."""
        if pid not in self._containers:
            from twdiag.sources.live.namespaces.containers import container_of

            self._containers[pid] = container_of(pid)
        return self._containers[pid]

    def gap(self, unseen: int) -> Gap:
        """Return what is said where the owners of so many sockets were not seen."""
        if denied := self._holders.denied:
            why = f"the owners of {count(unseen, 'socket')} are not visible: "
            why += f"no permission to read {count(denied, 'process', 'processes')}"
            how = rights.to_get(*rights.READ_OTHERS)
            return Gap("owners", why, how, partial=True)
        why = f"no process that is visible from here holds {count(unseen, 'socket')}"
        return Gap("owners", why, "another PID namespace, or new sockets", partial=True)


def _view_of(listening: list[Socket], sysctls: Mapping[str, str]) -> View:
    """Return a view that knows the listeners and the sysctls, and so tells servers and clients."""
    listeners = listeners_of(socket for socket in listening if socket.state is State.LISTEN)
    census = Census(tuple(listening), listeners)
    return View(Snapshot(0.0, Host("", ""), "", census, sysctls=sysctls))


def _judging(request: SocketsRequest) -> tuple[tuple[Rule[Any], ...], Limits, tuple[str, ...]]:
    """Return the rules asked for, the limits in force, and what is worth to know of the settings.

    Raises UsageError for a name that is no rule, and for a rule that no row stands behind.
    """
    from twdiag import rules

    if not request.rules:
        if request.limits or request.config:
            raise UsageError("--limit and --config go with --rule", "add --rule RULE")
        return (), rules.DEFAULTS, ()
    chosen = rules.choose(request.rules)
    for rule in chosen:
        if rule.rows is None:
            what = f"no socket table has a row behind {rule.name}"
            raise UsageError(what, f"what it tells: twdiag --select {rule.name} --full")
    from twdiag.engine.choice import limits_for
    from twdiag.settings import config

    settings = config.load(request.config, request.limits)
    return chosen, limits_for(request.ports, settings.limits), settings.notes
