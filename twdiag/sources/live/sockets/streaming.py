"""Read the sockets of this network namespace one by one, in little memory however many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import SourceError
from twdiag.model.snapshot import Gap
from twdiag.sources.live.sockets import inet_diag
from twdiag.sources.live.sockets.channel import TRIES, Channel, again
from twdiag.sources.live.sockets.inet_diag import CONNECTED, Interrupted
from twdiag.sources.live.sockets.netlink import (
    HALF_CLOSED,
    closing_mptcp,
    few_full,
    mptcp_sockets,
    read_listening,
)
from twdiag.sources.live.sockets.seen import Streamed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from twdiag.model.sockets import Socket, TcpInfo
    from twdiag.sources.live.sockets.blocks import Block

_REMEMBERED: Final = 4096
"""More rows than a block has, since rows of each length come in blocks of their own."""


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
        listening = read_listening(channel, sockstat, gaps)
    except BaseException:
        channel.close()
        raise
    wanted = _Wanted(states & CONNECTED, few_full(sockstat))
    return Streamed(listening, _stream_connected(channel, wanted, ports, gaps))


class _Wanted(NamedTuple):
    """The states of a dump, and whether few sockets of the host are more than mini-sockets."""

    states: int
    few_full: bool

    @property
    def half_closed(self) -> int:
        """The states among them that have ages."""
        return self.states & inet_diag.state_bits(*HALF_CLOSED)

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
        ages = again(channel, partial(_ages, channel)) if apart else {}
        for block in _whole(channel, states, wanted.with_ages) if states else ():
            for found in recent.unrepeated(block.sockets(ports)):
                info = ages.get(found.cookie) if ages else None
                yield found._replace(info=info) if info else found
        if channel.interrupted:
            why = "the socket table changed during the dump, so some rows may be missing"
            gaps.append(Gap("sockets", why, "run again when the host is calmer", partial=True))
        if half_closed and mptcp_sockets():
            yield from closing_mptcp(channel, half_closed, gaps)


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
    for left in range(TRIES - 1, -1, -1):
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
    blocks = channel.read(inet_diag.state_bits(*HALF_CLOSED), info=True)
    sockets = (found for block in blocks for found in block.sockets())
    return {found.cookie: found.info for found in sockets if found.info is not None}
