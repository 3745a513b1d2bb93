"""Read every TCP socket of this network namespace by sock_diag, the kernel's own dump."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from twdiag.census.columns import positions
from twdiag.census.table import TIMER_TIME_WAIT, SocketTable
from twdiag.errors import SourceError, SourceRefused
from twdiag.model import Gap
from twdiag.sources.live import inet_diag
from twdiag.sources.live.inet_diag import (
    AF_INET,
    AF_INET6,
    ALL_STATES,
    IPPROTO_MPTCP,
    Dump,
    may_end,
)
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.seen import Seen
from twdiag.tcp import State

if TYPE_CHECKING:
    from types import TracebackType

_NETLINK_SOCK_DIAG: Final = 4
# The kernel fills up to 32 KiB a datagram, but only once it has seen a buffer of that size
# (netlink_recvmsg() keeps the largest as max_recvmsg_len); a smaller one would cut rows.
_BUFFER: Final = 65536
_BATCH: Final = 1 << 18
_QUIET_SECONDS: Final = 5.0
_TRIES: Final = 3
_IS_FULL: Final = bytes(timer != TIMER_TIME_WAIT for timer in range(256))
_HALF_CLOSED: Final = (State.CLOSE_WAIT, State.FIN_WAIT2)


class Interrupted(SourceError):
    """The dump lost rows (ENOBUFS): it has to be taken again."""


def read_netlink() -> Seen:
    """Return what sock_diag shows: all TCP sockets, ages of the half-closed, auto-bound listeners.

    Raises SourceRefused where the kernel (or a seccomp filter) does not allow the dump, SourceError
    where it cannot be understood or does not end.
    """
    with _Channel() as channel:
        seen = _read_table(channel)
        table = seen.table
        if _mptcp_sockets():
            _add_mptcp(channel, seen)
        table.settle()
        table.drop(_repeated(table))
        if _needs_ages(table):
            _read_ages(channel, seen)
        _read_auto_bound(channel, seen)
        return seen


class _Channel:
    """A netlink socket that takes one dump after the other."""

    def __init__(self) -> None:
        self._socket = _open()
        self._buffer = bytearray(_BATCH + _BUFFER)
        self._seq = 0
        self._one_walk = True

    def __enter__(self) -> _Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def dump(
        self,
        table: SocketTable,
        family: int | None,
        states: int = ALL_STATES,
        *,
        info: bool = False,
        auto_bound_only: bool = False,
        protocol: int = inet_diag.IPPROTO_TCP,
    ) -> Dump:
        """Append one dump to a table and return it, with what else it said.

        Family None is IPv4 and IPv6 in one walk.  A dump that lost rows is taken again.
        """
        first = len(table)
        for _ in range(_TRIES - 1):
            try:
                return self._dump_once(table, family, states, info, auto_bound_only, protocol)
            except Interrupted:
                table.cut(first)
                self._reopen()
        return self._dump_once(table, family, states, info, auto_bound_only, protocol)

    def _reopen(self) -> None:
        """Take a new socket: the kernel refuses another dump (EBUSY) while one is unfinished."""
        self._socket.close()
        self._socket = _open()

    def _dump_once(
        self,
        table: SocketTable,
        family: int | None,
        states: int,
        info: bool,
        auto_bound_only: bool,
        protocol: int,
    ) -> Dump:
        self._seq += 1
        if family is None:
            request = inet_diag.encode_both_families(
                states, info=info, auto_bound_only=auto_bound_only, seq=self._seq
            )
        else:
            request = inet_diag.encode_request(
                family,
                states,
                info=info,
                auto_bound_only=auto_bound_only,
                protocol=protocol,
                seq=self._seq,
            )
        dump = Dump(table, self._seq, info=info)
        try:
            self._socket.sendto(request, (0, 0))
            while not dump.done:
                dump.feed(self._receive())
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
        return dump

    def _receive(self) -> memoryview:
        """Return the next datagrams, one behind the other: decoding many rows at once is faster."""
        view, used = memoryview(self._buffer), 0
        while used < _BATCH:
            free = view[used : used + _BUFFER]
            received, _, flags, _ = self._socket.recvmsg_into([free])
            if flags & socket.MSG_TRUNC or not received:
                raise SourceError("the kernel sent a datagram of an unexpected size")
            used += received
            if received % 4 or may_end(free[:received]):
                break
        return view[:used]

    def dump_both(
        self,
        table: SocketTable,
        states: int = ALL_STATES,
        *,
        info: bool = False,
        auto_bound_only: bool = False,
    ) -> list[Dump]:
        """Append the sockets of both families: one walk of the kernel's table, else one for each.

        A kernel without IPv6 refuses its dump, and has no such sockets.
        """
        first = len(table)
        if self._one_walk:
            try:
                both = self.dump(table, None, states, info=info, auto_bound_only=auto_bound_only)
                return [both]
            except SourceRefused:
                self._one_walk = False
                table.cut(first)
                self._reopen()
        dumps = [self.dump(table, AF_INET, states, info=info, auto_bound_only=auto_bound_only)]
        try:
            dumps.append(
                self.dump(table, AF_INET6, states, info=info, auto_bound_only=auto_bound_only)
            )
        except SourceRefused:
            if os.path.exists("/proc/net/if_inet6"):
                raise
        return dumps


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


def _read_table(channel: _Channel) -> Seen:
    """Return all TCP sockets of both families; an inconsistent dump is taken again."""
    for _ in range(_TRIES):
        seen = Seen(SocketTable())
        dumps = channel.dump_both(seen.table)
        for dump in dumps:
            seen.cgroups.update(dump.cgroups)
        if not any(dump.interrupted for dump in dumps):
            return seen
    why = "the socket table changed during each dump, so some rows may be missing"
    seen.gaps.append(Gap("sockets", why, "run again when the host is calmer", partial=True))
    return seen


def _mptcp_sockets() -> bool:
    """Return whether this namespace holds MPTCP sockets at all, which is cheap to know."""
    lines = (read_text("/proc/net/protocols") or "").splitlines()
    fields = [line.split() for line in lines if line.startswith("MPTCP")]
    return any(len(f) > 2 and f[2].isdecimal() and int(f[2]) > 0 for f in fields)


def _add_mptcp(channel: _Channel, seen: Seen) -> None:
    """Append the closing MPTCP connections.

    Their subflows stay ESTABLISHED in the TCP dump while the connection waits in CLOSE_WAIT, so a
    leak would be invisible there.
    """
    table, first = seen.table, len(seen.table)
    states = inet_diag.state_bits(*_HALF_CLOSED)
    try:
        for family in (AF_INET, AF_INET6):
            channel.dump(table, family, states, protocol=IPPROTO_MPTCP)
    except SourceError as error:
        why = f"closing MPTCP connections are not visible: {error.what}"
        how = "load the mptcp_diag module (modprobe mptcp_diag)"
        seen.gaps.append(Gap("mptcp", why, how, partial=True))
    table.mptcp.update(range(first, len(table)))


def _repeated(table: SocketTable) -> set[int]:
    """Return the rows of full sockets that the dump reports for the second time.

    A dump resumes at (bucket, index in bucket), so rows can repeat while the table changes.  Only
    full sockets are checked: there are few, and a repeated TIME_WAIT is one in 264,000.
    """
    rows = list(positions(table.timer.tobytes().translate(_IS_FULL)))
    if len({table.cookie[row] for row in rows}) == len(rows):
        return set()
    seen: set[int] = set()
    repeated: set[int] = set()
    for row in rows:
        cookie = table.cookie[row]
        if cookie in seen and row not in table.mptcp:
            repeated.add(row)
        seen.add(cookie)
    return repeated


def _needs_ages(table: SocketTable) -> bool:
    return any(
        table.timer[index] != TIMER_TIME_WAIT and index not in table.mptcp
        for index in table.rows_in(*_HALF_CLOSED)
    )


def _read_ages(channel: _Channel, seen: Seen) -> None:
    """Add the ages (tcp_info) of the sockets that wait half closed, by cookie."""
    states = inet_diag.state_bits(*_HALF_CLOSED)
    try:
        for dump in channel.dump_both(SocketTable(), states, info=True):
            seen.tcp_info.update(dump.tcp_info)
            seen.cgroups.update(dump.cgroups)
    except SourceError as error:
        why = f"how long sockets wait is not visible: {error.what}"
        seen.gaps.append(Gap("tcp-info", why, error.next_step))


def _read_auto_bound(channel: _Channel, seen: Seen) -> None:
    """Add the cookies of the listeners whose port the kernel chose.  LISTEN alone is cheap."""
    table = SocketTable()
    try:
        channel.dump_both(table, inet_diag.state_bits(State.LISTEN), auto_bound_only=True)
        seen.auto_bound = frozenset(table.cookie)
    except SourceError as error:
        why = f"who chose a listener's port is not visible: {error.what}"
        seen.gaps.append(Gap("bind-mode", why, error.next_step))
