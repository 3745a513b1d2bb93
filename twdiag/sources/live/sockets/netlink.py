"""Read every TCP socket of this network namespace by sock_diag, the kernel's own dump."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from twdiag.census.adding_up import census_of
from twdiag.census.intake import Intake
from twdiag.errors import SourceError
from twdiag.model.snapshot import Gap
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.sockets import inet_diag
from twdiag.sources.live.sockets.blocks import hand_over
from twdiag.sources.live.sockets.channel import TRIES, Channel, again
from twdiag.sources.live.sockets.inet_diag import (
    AF_INET,
    AF_INET6,
    CONNECTED,
    IPPROTO_MPTCP,
    LISTENING,
)
from twdiag.sources.live.sockets.seen import Seen
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from typing import TypeVar

    from twdiag.model.sockets import Socket
    from twdiag.sources.live.sockets.blocks import Block

    T = TypeVar("T")

# A TIME_WAIT and a SYN that is being answered belong to no process.
_WITH_INODE: Final = inet_diag.ALL_STATES & ~(1 << State.TIME_WAIT | 1 << 12)
HALF_CLOSED: Final = (State.CLOSE_WAIT, State.FIN_WAIT2)
_FEW_SOCKETS: Final = 20_000
_FEW_BOUND: Final = 64
_FEW_BOUND_OF_MANY: Final = 500
"""For the whole host, by a counter that is off by up to 32 for each CPU (percpu_counter_read())."""

_MOST_LOOKED_UP: Final = 500
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
        listening = read_listening(channel, sockstat, gaps, spare=one_of_many)
        if one_of_many and _only_listens(sockstat, listening):
            return Seen(census_of(Intake(listening, sysctls)), gaps)
        intake = _read_connected(channel, listening, sysctls, few_full(sockstat), gaps)
        if mptcp_sockets():
            _read_mptcp(channel, intake, gaps)
        if not few_full(sockstat):
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
        return again(channel, take)


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


def find_sockets(inodes: Collection[int], seconds: float = 0.5) -> dict[int, Socket]:
    """Return the sockets of this namespace that have these inodes, as far as time allows.

    The kernel has no lookup by inode.  Missing ones are of another kind (Unix, UDP), another
    namespace, or in no table; {} where the kernel refuses.  Needs no right.
    """
    wanted = frozenset(inodes) - {0}
    found: dict[int, Socket] = {}
    until = time.monotonic() + seconds
    with contextlib.suppress(SourceError), Channel() as channel:
        for block in channel.read(_WITH_INODE) if wanted else ():
            if time.monotonic() > until:
                break
            found.update((socket.inode, socket) for socket in block.with_inodes(wanted))
            if len(found) == len(wanted):
                break
    return found


def few_full(sockstat: Mapping[str, int]) -> bool:
    """Return whether ages can be asked of all sockets: few of them are more than mini-sockets."""
    full = sockstat.get("TCP.inuse", 0) + sockstat.get("TCP6.inuse", 0)
    return full <= _FEW_SOCKETS


def read_listening(
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

    sockets = {found.cookie: found for found in again(channel, take)}.values()
    try:
        chosen = {found.cookie for found in again(channel, lambda: take(auto=True))}
    except SourceError as error:
        why = f"who chose a listener's port is not visible: {error.what}"
        gaps.append(Gap("bind-mode", why, error.next_step))
        return list(sockets)
    return [found._replace(auto_bound=found.cookie in chosen) for found in sockets]


def _only_listens(sockstat: Mapping[str, int], listening: list[Socket]) -> bool:
    """Return whether a namespace has no sockets but these: no connection, no TIME_WAIT."""
    listeners = sum(1 for found in listening if found.state is State.LISTEN)
    in_use = sockstat.get("TCP.inuse", -1) + sockstat.get("TCP6.inuse", 0)
    return sockstat.get("TCP.tw") == 0 and in_use == listeners and not mptcp_sockets()


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

    for _ in range(TRIES):
        intake = again(channel, take)
        if not channel.interrupted:
            return intake
    why = "the socket table changed during each dump, so some rows may be missing"
    gaps.append(Gap("sockets", why, "run again when the host is calmer", partial=True))
    return intake


def mptcp_sockets() -> bool:
    """Return whether this namespace holds MPTCP sockets at all, which is cheap to know."""
    lines = (read_text("/proc/net/protocols") or "").splitlines()
    fields = [line.split() for line in lines if line.startswith("MPTCP")]
    return any(len(f) > 2 and f[2].isdecimal() and int(f[2]) > 0 for f in fields)


def _read_mptcp(channel: Channel, intake: Intake, gaps: list[Gap]) -> None:
    """Add the closing MPTCP connections."""
    for found in closing_mptcp(channel, inet_diag.state_bits(*HALF_CLOSED), gaps):
        intake.keep(found)


def closing_mptcp(channel: Channel, states: int, gaps: list[Gap]) -> Iterator[Socket]:
    """Yield the closing MPTCP connections.

    Their subflows stay ESTABLISHED in the TCP dump while the connection waits in CLOSE_WAIT, so a
    leak would be invisible there.
    """

    def take(family: int) -> list[Socket]:
        blocks = channel.read_family(family, states, protocol=IPPROTO_MPTCP)
        return [found._replace(mptcp=True) for block in blocks for found in block.sockets()]

    try:
        for family in (AF_INET, AF_INET6):
            yield from again(channel, partial(take, family))
    except SourceError as error:
        why = f"closing MPTCP connections are not visible: {error.what}"
        how = "load the mptcp_diag module (modprobe mptcp_diag)"
        gaps.append(Gap("mptcp", why, how, partial=True))


def _read_ages(channel: Channel, intake: Intake, gaps: list[Gap]) -> None:
    """Add the ages (tcp_info) of the sockets that wait half closed."""
    states = inet_diag.state_bits(*HALF_CLOSED)

    def take() -> list[Socket]:
        blocks = channel.read(states, info=True)
        return [found for block in blocks for found in block.sockets() if not found.is_mini]

    try:
        for found in again(channel, take):
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
