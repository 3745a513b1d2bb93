"""Whether bind() of an address succeeds beside the sockets that a port has: the kernel's rule.

What conflicts with what is inet_bind_conflict() in net/ipv4/inet_connection_sock.c: two sockets on
overlapping addresses conflict unless both have SO_REUSEADDR and none listens, or both have
SO_REUSEPORT and the same user; mini-sockets (TIME_WAIT and its kin) have forgotten their user.
Whether an old socket had an option is not shown by the kernel: so the answers are yes, no, and "if
the old socket had it too".
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.analysis.row import left_of
from twdiag.model.sockets import TIMER_NONE, TIMER_TIME_WAIT, Socket
from twdiag.tcp import State
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twdiag.model.snapshot import Owner
    from twdiag.sources.live.sockets.one_port import PortRow

IPV4_ANY: Final = "0.0.0.0"
IPV6_ANY: Final = "::"
LOOPBACK: Final = "127.0.0.1"
_LATE: Final = 4.1
"""By how many seconds a timer of a TIME_WAIT can be late: one step of the kernel's timer wheel."""
_ORPHAN_SECONDS: Final = 205
"""After how many seconds at most the kernel gives up on an orphan whose FIN nobody answers."""
_MOST_ADDRESSES: Final = 8
_MOST_REMOTES: Final = 3


class Option(enum.Enum):
    """The socket options that let bind() pass over others."""

    NONE = "none"
    REUSEADDR = "SO_REUSEADDR"
    REUSEPORT = "SO_REUSEPORT"


class Verdict(enum.Enum):
    """Whether bind() succeeds; IF_OLD_HAD_IT depends on the options of the sockets in the way."""

    FREE = "free"
    IF_OLD_HAD_IT = "if-old-had-it"
    BLOCKED = "blocked"


class PortRole(enum.Enum):
    """What a socket on the port is."""

    LISTENER = "listener"
    BOUND = "bound"
    SERVER = "server"
    CLIENT = "client"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PortHolder:
    """Sockets of one state on one local address: `count` of them, and when they are gone.

    `v6only` is that of an IPv6 wildcard.  `first_gone` and `last_gone` are seconds from now, None
    where only the process ends them; `owners` may be unseen.  `remotes` are up to three far
    ends; `mini` sockets are those that the kernel alone keeps: TIME_WAIT, FIN_WAIT2 after close().
    """

    kind: PortRole
    state: State
    address: str
    count: int
    v6only: bool = False
    first_gone: float | None = None
    last_gone: float | None = None
    uids: tuple[int, ...] = ()
    owners: tuple[Owner, ...] = ()
    remotes: tuple[str, ...] = ()
    mini: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """bind() of one address; `v6only` is whether an IPv6 wildcard leaves IPv4 out."""

    address: str
    v6only: bool
    verdicts: Mapping[Option, Verdict]


def conflicts(
    state: State, mini: bool, old: frozenset[Option], new: frozenset[Option], same_user: bool
) -> bool:
    """Return whether a socket keeps a new one from the same address: the kernel's own rule.

    `mini` are TIME_WAIT and the FIN_WAIT2 of a closed socket: they have forgotten their user.
    """
    if Option.REUSEADDR in old and Option.REUSEADDR in new and state is not State.LISTEN:
        return False
    both = Option.REUSEPORT in old and Option.REUSEPORT in new
    return not (both and (same_user or mini))


def overlap(one: tuple[str, bool], other: tuple[str, bool]) -> bool:
    """Return whether two local addresses, each with IPV6_V6ONLY, meet; see ipv6_rcv_saddr_equal().

    An IPv6 wildcard takes IPv4 too, unless it is IPV6_V6ONLY.
    """
    return any(
        IPV4_ANY in pair or IPV6_ANY in pair or pair[0] == pair[1]
        for pair in zip(_covered(*one), _covered(*other), strict=True)
        if None not in pair
    )


def _covered(address: str, v6only: bool) -> tuple[str | None, str | None]:
    """Return what a local address covers of IPv4 and of IPv6: all, one address, or nothing."""
    if address == IPV6_ANY:
        return (None if v6only else IPV4_ANY), IPV6_ANY
    return (None, address) if ":" in address else (address, None)


_OPTION_SETS: Final = tuple(
    frozenset(options)
    for size in range(3)
    for options in itertools.combinations((Option.REUSEADDR, Option.REUSEPORT), size)
)


def judge(address: str, v6only: bool, option: Option, holders: Iterable[PortHolder]) -> Verdict:
    """Return whether bind() of an address succeeds with an option beside these sockets."""
    new = frozenset({option} - {Option.NONE})
    worst = Verdict.FREE
    for holder in holders:
        if not overlap((address, v6only), (holder.address, holder.v6only)):
            continue
        outcomes = {
            conflicts(holder.state, holder.mini, old, new, same_user)
            for old in _OPTION_SETS
            for same_user in (True, False)
        }
        if outcomes == {True}:
            return Verdict.BLOCKED
        worst = Verdict.IF_OLD_HAD_IT
    return worst


_Key = tuple[PortRole, State, str, bool, bool]
"""Kind, state, local address, IPV6_V6ONLY and whether only the kernel keeps it."""


def holders_of(
    rows: Iterable[PortRow],
    owners: Mapping[int, tuple[Owner, ...]],
    fin_timeout: int | None = None,
) -> list[PortHolder]:
    """Return the sockets of a port in groups: by state, local address and whose they are."""
    found = list(rows)
    listening = [
        (row.socket.local_address, bool(row.v6only))
        for row in found
        if row.socket.state is State.LISTEN
    ]
    groups: dict[_Key, list[Socket]] = {}
    for row in found:
        one = row.socket
        v6only = bool(row.v6only) and one.local_address == IPV6_ANY
        kind = _kind(one, listening)
        key = (kind, one.state, one.local_address, v6only, one.timer == TIMER_TIME_WAIT)
        groups.setdefault(key, []).append(one)
    order = list(PortRole)
    return sorted(
        (_holder(key, sockets, owners, fin_timeout) for key, sockets in groups.items()),
        key=lambda h: (order.index(h.kind), h.state, h.address, h.v6only, h.mini),
    )


def _kind(one: Socket, listening: Sequence[tuple[str, bool]]) -> PortRole:
    if one.state is State.LISTEN:
        return PortRole.LISTENER
    if one.state is State.CLOSE:
        return PortRole.BOUND
    if any(overlap((one.local_address, False), address) for address in listening):
        return PortRole.SERVER
    if one.state is State.SYN_SENT:
        return PortRole.CLIENT
    return PortRole.UNKNOWN


def _holder(
    key: _Key,
    sockets: Sequence[Socket],
    owners: Mapping[int, tuple[Owner, ...]],
    fin_timeout: int | None,
) -> PortHolder:
    kind, state, address, v6only, mini = key
    ends = [_gone_in(one, fin_timeout) for one in sockets]
    known = [end for end in ends if end is not None]
    named = {owner for one in sockets for owner in owners.get(one.inode, ())}
    return PortHolder(
        kind,
        state,
        address,
        len(sockets),
        v6only,
        min(known, default=None),
        max(known) if known and len(known) == len(ends) else None,
        tuple(sorted({one.uid for one in sockets if one.timer != TIMER_TIME_WAIT})),
        tuple(sorted(named)),
        tuple(sorted({endpoint(s.remote_address, s.remote_port) for s in sockets}))[:_MOST_REMOTES]
        if kind not in (PortRole.LISTENER, PortRole.BOUND)
        else (),
        mini,
    )


def _gone_in(one: Socket, fin_timeout: int | None) -> float | None:
    """Return after how many seconds a socket is gone at the latest, None where that is open.

    A FIN_WAIT2 without an owner becomes a TIME_WAIT of 60 s if the peer's FIN comes.
    """
    if (left := left_of(one, fin_timeout)) is not None and one.state is State.FIN_WAIT2:
        return left + _LATE + 60
    if one.timer == TIMER_TIME_WAIT:
        return one.expires / 1000 + _LATE
    orphan = not one.inode and one.timer != TIMER_NONE
    if orphan and one.state in (State.FIN_WAIT1, State.LAST_ACK, State.CLOSING):
        return float(_ORPHAN_SECONDS)
    return None


def attempts_at(holders: Sequence[PortHolder]) -> list[Attempt]:
    """Return what bind() would say of each address: the wildcards, loopback, and those in use."""
    in_use = Counter(h.address for h in holders if h.address not in (IPV4_ANY, IPV6_ANY, LOOPBACK))
    busiest = [address for address, _ in in_use.most_common(_MOST_ADDRESSES)]
    wanted = [
        (IPV6_ANY, False),
        (IPV4_ANY, False),
        (IPV6_ANY, True),
        *((address, False) for address in sorted({LOOPBACK, *busiest})),
    ]
    return [
        Attempt(
            address,
            v6only,
            {option: judge(address, v6only, option, holders) for option in Option},
        )
        for address, v6only in wanted
    ]
