"""Read every TCP socket of this network namespace by sock_diag, the kernel's own dump."""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.census.adding_up import census_of
from twdiag.census.intake import Intake
from twdiag.errors import SourceError, SourceRefused
from twdiag.model.snapshot import Gap
from twdiag.sources.live import inet_diag
from twdiag.sources.live.blocks import hand_over
from twdiag.sources.live.inet_diag import (
    AF_INET,
    AF_INET6,
    CONNECTED,
    IPPROTO_MPTCP,
    LISTENING,
    Dump,
    Interrupted,
    may_end,
)
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.seen import Seen, Streamed
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import TypeVar

    from twdiag.model.sockets import Socket, TcpInfo
    from twdiag.sources.live.blocks import Block

    T = TypeVar("T")

_NETLINK_SOCK_DIAG: Final = 4
# The kernel fills up to 32 KiB a datagram, but only once it has seen a buffer of that size
# (netlink_recvmsg() keeps the largest as max_recvmsg_len); a smaller one would cut rows.
_BUFFER: Final = 65536
_BATCH: Final = 1 << 18
_QUIET_SECONDS: Final = 5.0
_TRIES: Final = 3
# A TIME_WAIT and a SYN that is being answered belong to no process.
_WITH_INODE: Final = inet_diag.ALL_STATES & ~(1 << State.TIME_WAIT | 1 << 12)
_HALF_CLOSED: Final = (State.CLOSE_WAIT, State.FIN_WAIT2)
_FEW_SOCKETS: Final = 20_000
_FEW_BOUND: Final = 64
_FEW_BOUND_OF_MANY: Final = 500
"""For the whole host, by a counter that is off by up to 32 for each CPU (percpu_counter_read())."""

_MOST_LOOKED_UP: Final = 500
_REMEMBERED: Final = 4096
"""More rows than a block has, since rows of each length come in blocks of their own."""
_UNSEEN: Final[Mapping[str, Any]] = MappingProxyType({})


def read_netlink(
    sysctls: Mapping[str, str] = _UNSEEN,
    sockstat: Mapping[str, int] = _UNSEEN,
    *,
    one_of_many: bool = False,
) -> Seen:
    """Return what sock_diag shows: all TCP sockets, ages of the half-closed, auto-bound listeners.

    `sysctls` and `sockstat` are those of the same namespace; the latter tells which costly parts of
    a dump can be left out.  For connections, and once more for bound sockets, the kernel walks the
    tables of all namespaces: `one_of_many` is spared the first where by its numbers it only listens
    (SYNs that nobody has answered yet are in none of them), the second where there are few.  Raises
    SourceRefused where the kernel (or a seccomp filter) does not allow the dump, SourceError where
    it cannot be understood or does not end.
    """
    with Channel() as channel:
        gaps: list[Gap] = []
        listening = _read_listening(channel, sockstat, gaps, spare=one_of_many)
        if one_of_many and _only_listens(sockstat, listening):
            return Seen(census_of(Intake(listening, sysctls)), gaps)
        intake = _read_connected(channel, listening, sysctls, _few_full(sockstat), gaps)
        if _mptcp_sockets():
            _read_mptcp(channel, intake, gaps)
        if not _few_full(sockstat):
            if intake.has_half_closed():
                _read_ages(channel, intake, gaps)
            _read_ages_of_unaccepted(channel, intake)
        return Seen(census_of(intake), gaps)


def read_rows(
    states: int, decode: Callable[[Block], Iterable[T]], *, info: bool = False
) -> list[T]:
    """Return what decode() makes of the rows in some states, with struct tcp_info if asked for.

    Raises as read_netlink() does.
    """

    def take() -> list[T]:
        blocks = channel.read(states, info=info)
        return [one for block in blocks for one in decode(block)]

    with Channel() as channel:
        return _again(channel, take)


def read_states(inodes: Collection[int]) -> dict[int, State]:
    """Return the states of the sockets with these inodes, without those that are in no table.

    One walk of the kernel's table, TIME_WAITs left out.  Raises SourceError.
    """
    wanted = frozenset(inodes)
    if not wanted:
        return {}
    found = read_rows(_WITH_INODE, lambda block: block.states_of(wanted))
    return {inode: State(state) for inode, state in found}


def read_established(inodes: Collection[int]) -> list[Socket]:
    """Return the ESTABLISHED sockets with these inodes, with their ages.

    One walk of the kernel's table: for a few processes that deserve it.  Raises SourceError.
    """
    wanted = frozenset(inodes)
    established = inet_diag.state_bits(State.ESTABLISHED)
    found = read_rows(established, lambda block: block.with_inodes(wanted), info=True)
    return list({socket.cookie: socket for socket in found}.values())


def stream_netlink(
    states: int, sockstat: Mapping[str, int], gaps: list[Gap], ports: Collection[int] = ()
) -> Streamed:
    """Return the sockets in some states one by one: connected ones are decoded as they are taken.

    With `ports`, connected ones are those with one of them at either end.  Listeners, and bound
    sockets where the walk for them is worth its cost, are read whatever is asked for: they tell
    which side a connection is.  Half-closed ones have their ages.  `gaps` takes
    what was not seen, in the end.  Raises as read_netlink() does; a dump that loses rows after the
    first was handed out cannot be taken again, and is a SourceError.
    """
    channel = Channel()
    try:
        listening = _read_listening(channel, sockstat, gaps)
    except BaseException:
        channel.close()
        raise
    wanted = _Wanted(states & CONNECTED, _few_full(sockstat))
    return Streamed(listening, _stream_connected(channel, wanted, ports, gaps))


class _Wanted(NamedTuple):
    """The states of a dump, and whether few sockets of the host are more than mini-sockets."""

    states: int
    few_full: bool

    @property
    def half_closed(self) -> int:
        """The states among them that have ages."""
        return self.states & inet_diag.state_bits(*_HALF_CLOSED)

    @property
    def with_ages(self) -> bool:
        """Whether one dump brings the ages too: each costs a lock of its socket."""
        return bool(self.half_closed) and (self.states == self.half_closed or self.few_full)


def _stream_connected(
    channel: Channel, wanted: _Wanted, ports: Collection[int], gaps: list[Gap]
) -> Iterator[Socket]:
    states, half_closed = wanted.states, wanted.half_closed
    recent, apart = _Recent(), half_closed and not wanted.with_ages
    with channel:
        ages = _again(channel, partial(_ages, channel)) if apart else {}
        for block in _whole(channel, states, wanted.with_ages) if states else ():
            for found in recent.unrepeated(block.sockets(ports)):
                info = ages.get(found.cookie) if ages else None
                yield found._replace(info=info) if info else found
        if channel.interrupted:
            why = "the socket table changed during the dump, so some rows may be missing"
            gaps.append(Gap("sockets", why, "run again when the host is calmer", partial=True))
        if half_closed and _mptcp_sockets():
            yield from _closing_mptcp(channel, half_closed, gaps)


class _Recent:
    """Passes over rows that a dump repeats: near each other, since it goes on in the same bucket.

    Two generations of cookies are remembered, so that memory does not grow with the rows.
    """

    def __init__(self) -> None:
        self._older: set[int] = set()
        self._newer: set[int] = set()

    def unrepeated(self, sockets: Iterable[Socket]) -> Iterator[Socket]:
        """Yield the sockets that were not there a moment ago."""
        for found in sockets:
            cookie = found.cookie
            if cookie in self._newer or cookie in self._older:
                continue
            self._newer.add(cookie)
            if len(self._newer) >= _REMEMBERED:
                self._older, self._newer = self._newer, set()
            yield found


def _whole(channel: Channel, states: int, info: bool) -> Iterator[Block]:
    """Yield a dump that is taken again as long as nothing of it was handed out."""
    for left in range(_TRIES - 1, -1, -1):
        given = False
        try:
            for block in channel.read(states, info=info):
                given = True
                yield block
            return
        except Interrupted as error:
            if given or not left:
                how = "run again; the rows until here are right"
                raise SourceError("the kernel lost a part of the socket dump", how) from error
            channel.reopen()


def _ages(channel: Channel) -> dict[int, TcpInfo]:
    """Return the ages of the half-closed sockets by their cookies."""
    blocks = channel.read(inet_diag.state_bits(*_HALF_CLOSED), info=True)
    sockets = (found for block in blocks for found in block.sockets())
    return {found.cookie: found.info for found in sockets if found.info is not None}


class Channel:
    """A netlink socket that takes one dump after the other."""

    def __init__(self) -> None:
        self._socket = _open()
        self._buffer = bytearray(_BATCH + _BUFFER)
        self._seq = 0
        self._one_walk = True
        self.interrupted = False
        """Whether the kernel called the last dumps inconsistent."""

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def reopen(self) -> None:
        """Take a new socket: the kernel refuses another dump (EBUSY) while one is unfinished."""
        self._socket.close()
        self._socket = _open()

    def read(
        self, states: int, *, info: bool = False, auto_bound_only: bool = False
    ) -> Iterator[Block]:
        """Yield the sockets of both families: one walk of the kernel's table, else one for each.

        A kernel without IPv6 refuses its dump, and has no such sockets.
        """
        self.interrupted = False
        if self._one_walk:
            request = inet_diag.encode_both_families(
                states, info=info, auto_bound_only=auto_bound_only, seq=self._next()
            )
            given = False
            try:
                for block in self._dump(request):
                    given = True
                    yield block
                return
            except SourceRefused as error:
                self._one_walk = False
                self.reopen()
                if given:  # a walk for each family would give those rows again
                    raise Interrupted(error.what, error.next_step) from error
        for family in (AF_INET, AF_INET6):
            try:
                yield from self.read_family(
                    family, states, info=info, auto_bound_only=auto_bound_only
                )
            except SourceRefused:
                if family == AF_INET or os.path.exists("/proc/net/if_inet6"):
                    raise

    def read_family(
        self,
        family: int,
        states: int,
        *,
        info: bool = False,
        auto_bound_only: bool = False,
        protocol: int = inet_diag.IPPROTO_TCP,
    ) -> Iterator[Block]:
        """Yield the sockets of one family and protocol."""
        yield from self._dump(
            inet_diag.encode_request(
                family,
                states,
                info=info,
                auto_bound_only=auto_bound_only,
                protocol=protocol,
                seq=self._next(),
            )
        )

    def look_up(self, wanted: Socket) -> Socket | None:
        """Return one socket as it is now, with its ages; None where it is gone or refused."""
        try:
            self._socket.sendto(inet_diag.encode_lookup(wanted, self._next()), (0, 0))
            return inet_diag.decode_lookup(bytes(self._receive()), self._seq)
        except (OSError, SourceError):
            return None

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _dump(self, request: bytes) -> Iterator[Block]:
        dump = Dump(self._seq)
        try:
            self._socket.sendto(request, (0, 0))
            while not dump.done:
                yield from dump.feed(self._receive())
        except TimeoutError as error:
            raise SourceError(
                f"the kernel stopped answering the socket dump for {_QUIET_SECONDS:.0f} s",
                "run again, or use --source proc",
            ) from error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Interrupted("the kernel dropped a part of the socket dump") from error
            raise SourceRefused(
                f"the kernel refuses the socket dump: {error.strerror}", "use --source proc"
            ) from error
        finally:
            self.interrupted |= dump.interrupted

    def _receive(self) -> memoryview:
        """Return the next datagrams, one behind the other: decoding many rows at once is faster."""
        view, used = memoryview(self._buffer), 0
        while used < _BATCH:
            free = view[used : used + _BUFFER]
            received, _, flags, sender = self._socket.recvmsg_into([free])
            if sender[0]:
                continue  # another process may send to this socket; the kernel is number 0
            if flags & socket.MSG_TRUNC or not received:
                raise SourceError("the kernel sent a datagram of an unexpected size")
            used += received
            if received % 4 or may_end(free[:received]):
                break
        return view[:used]


def _open() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise SourceRefused(
            f"a netlink socket is refused: {error.strerror}",
            "allow AF_NETLINK (systemd: RestrictAddressFamilies=AF_NETLINK) or use --source proc",
        ) from error
    opened.settimeout(_QUIET_SECONDS)
    return opened


def _again(channel: Channel, take: Callable[[], T]) -> T:
    """Return what a call takes of a dump; one that lost rows is taken again."""
    for _ in range(_TRIES - 1):
        try:
            return take()
        except Interrupted:
            channel.reopen()
    return take()


def _few_full(sockstat: Mapping[str, int]) -> bool:
    """Return whether ages can be asked of all sockets: few of them are more than mini-sockets."""
    full = sockstat.get("TCP.inuse", 0) + sockstat.get("TCP6.inuse", 0)
    return full <= _FEW_SOCKETS


def _read_listening(
    channel: Channel, sockstat: Mapping[str, int], gaps: list[Gap], *, spare: bool = False
) -> list[Socket]:
    """Return the listeners, and the bound sockets where the walk for them is worth its cost.

    To find bound, unconnected sockets the kernel walks every bind bucket, those of TIME_WAITs too.
    """
    states, unconnected = LISTENING, _most_bound(sockstat)
    costly = sockstat.get("TCP.tw", 0) > _FEW_SOCKETS and unconnected <= _FEW_BOUND
    if costly or (spare and unconnected <= _FEW_BOUND_OF_MANY):
        states = inet_diag.state_bits(State.LISTEN)
        why = f"bound, unconnected sockets were not listed: there are at most {unconnected}"
        gaps.append(Gap("bound", why, "", partial=True))

    def take(auto: bool = False) -> list[Socket]:
        wanted = inet_diag.state_bits(State.LISTEN) if auto else states
        blocks = channel.read(wanted, auto_bound_only=auto)
        return [found for block in blocks for found in block.sockets()]

    sockets = {found.cookie: found for found in _again(channel, take)}.values()
    try:
        chosen = {found.cookie for found in _again(channel, lambda: take(auto=True))}
    except SourceError as error:
        why = f"who chose a listener's port is not visible: {error.what}"
        gaps.append(Gap("bind-mode", why, error.next_step))
        return list(sockets)
    return [found._replace(auto_bound=found.cookie in chosen) for found in sockets]


def _only_listens(sockstat: Mapping[str, int], listening: list[Socket]) -> bool:
    """Return whether a namespace has no sockets but these: no connection, no TIME_WAIT."""
    listeners = sum(1 for found in listening if found.state is State.LISTEN)
    in_use = sockstat.get("TCP.inuse", -1) + sockstat.get("TCP6.inuse", 0)
    return sockstat.get("TCP.tw") == 0 and in_use == listeners and not _mptcp_sockets()


def _most_bound(sockstat: Mapping[str, int]) -> int:
    """Return how many bound, unconnected sockets there can be: `alloc` counts them, host-wide."""
    in_use = sockstat.get("TCP.inuse", 0) + sockstat.get("TCP6.inuse", 0)
    return max(0, sockstat.get("TCP.alloc", 1 << 30) - in_use)


def _read_connected(
    channel: Channel,
    listening: list[Socket],
    sysctls: Mapping[str, str],
    info: bool,
    gaps: list[Gap],
) -> Intake:
    """Return all connected sockets; an inconsistent dump is taken again."""

    def take() -> Intake:
        intake = Intake(listening, sysctls)
        for block in channel.read(CONNECTED, info=info):
            hand_over(block, intake)
        return intake

    for _ in range(_TRIES):
        intake = _again(channel, take)
        if not channel.interrupted:
            return intake
    why = "the socket table changed during each dump, so some rows may be missing"
    gaps.append(Gap("sockets", why, "run again when the host is calmer", partial=True))
    return intake


def _mptcp_sockets() -> bool:
    """Return whether this namespace holds MPTCP sockets at all, which is cheap to know."""
    lines = (read_text("/proc/net/protocols") or "").splitlines()
    fields = [line.split() for line in lines if line.startswith("MPTCP")]
    return any(len(f) > 2 and f[2].isdecimal() and int(f[2]) > 0 for f in fields)


def _read_mptcp(channel: Channel, intake: Intake, gaps: list[Gap]) -> None:
    """Add the closing MPTCP connections."""
    for found in _closing_mptcp(channel, inet_diag.state_bits(*_HALF_CLOSED), gaps):
        intake.keep(found)


def _closing_mptcp(channel: Channel, states: int, gaps: list[Gap]) -> Iterator[Socket]:
    """Yield the closing MPTCP connections.

    Their subflows stay ESTABLISHED in the TCP dump while the connection waits in CLOSE_WAIT, so a
    leak would be invisible there.
    """

    def take(family: int) -> list[Socket]:
        blocks = channel.read_family(family, states, protocol=IPPROTO_MPTCP)
        return [found._replace(mptcp=True) for block in blocks for found in block.sockets()]

    try:
        for family in (AF_INET, AF_INET6):
            yield from _again(channel, partial(take, family))
    except SourceError as error:
        why = f"closing MPTCP connections are not visible: {error.what}"
        how = "load the mptcp_diag module (modprobe mptcp_diag)"
        gaps.append(Gap("mptcp", why, how, partial=True))


def _read_ages(channel: Channel, intake: Intake, gaps: list[Gap]) -> None:
    """Add the ages (tcp_info) of the sockets that wait half closed."""
    states = inet_diag.state_bits(*_HALF_CLOSED)

    def take() -> list[Socket]:
        blocks = channel.read(states, info=True)
        return [found for block in blocks for found in block.sockets() if not found.is_mini]

    try:
        for found in _again(channel, take):
            if intake.has_kept(found.cookie):
                intake.keep(found)
    except SourceError as error:
        why = f"how long sockets wait is not visible: {error.what}"
        gaps.append(Gap("tcp-info", why, error.next_step))


def _read_ages_of_unaccepted(channel: Channel, intake: Intake) -> None:
    """Add the ages of live connections that wait for accept(), of so many at most.

    One by one: they are few, and a walk with the ages of all live connections is a costly one.
    """
    for waiting in intake.unaccepted()[:_MOST_LOOKED_UP]:
        found = channel.look_up(waiting)
        if found is not None and found.cookie == waiting.cookie:
            intake.keep(waiting._replace(info=found.info))
