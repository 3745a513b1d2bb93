"""Read sockets from /proc/net/tcp and tcp6: the fallback where sock_diag is refused.

Parsers take text and are pure; an error quotes file, line number and line.  Formats:
Documentation/networking/proc_net_tcp.rst, and get_tcp4_sock() and get_timewait4_sock() in
net/ipv4/tcp_ipv4.c.
"""

from __future__ import annotations

import os
import re
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import text_of
from twdiag.errors import SourceError, SourceRefused
from twdiag.model.snapshot import Gap
from twdiag.model.sockets import TIMER_KEEPALIVE, TIMER_ZERO_WINDOW, Socket
from twdiag.sources.live.sockets.seen import Seen, Streamed, census_of_sockets, is_unconnected
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_USER_HZ: Final = os.sysconf("SC_CLK_TCK")
_ENDPOINT: Final = r"([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):([0-9A-Fa-f]{4})"
# sl, local and remote end, state, tx:rx queue, timer:when, retransmits, uid, probes, inode
_ROW: Final = re.compile(
    rf"\s*\d+:\s+{_ENDPOINT}\s+{_ENDPOINT}\s+([0-9A-Fa-f]{{2}})"
    r"\s+([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8})\s+([0-9A-Fa-f]{2}):([0-9A-Fa-f]{8,16})"
    r"\s+([0-9A-Fa-f]{8})\s+(\d{1,10})\s+(\d{1,10})\s+(\d{1,20})(?:\s|$)",
    re.ASCII,
)
_STATES: Final = {f"{state:02X}": state for state in State} | {"0C": State.SYN_RECV}


def read_proc(sysctls: Mapping[str, str] = MappingProxyType({}), root: str = "/proc/net") -> Seen:
    """Return the sockets of /proc/net/tcp and tcp6.

    They have timers, queues and inodes, but no ages, cookies, IPV6_V6ONLY or bind mode, and no
    bound, unconnected sockets.  Raises SourceRefused where /proc/net/tcp cannot be read.
    """
    paths, gaps = _tables(root)
    return Seen(census_of_sockets(lambda: _sockets_of(paths), sysctls), gaps)


def stream_proc(gaps: list[Gap], root: str = "/proc/net") -> Streamed:
    """Return the sockets of /proc/net/tcp and tcp6 one by one; raises as read_proc() does.

    The files are read twice: the listeners come first.
    """
    paths, unseen = _tables(root)
    gaps += unseen
    listening = [socket for socket in _sockets_of(paths) if is_unconnected(socket)]
    connected = (socket for socket in _sockets_of(paths) if not is_unconnected(socket))
    return Streamed(listening, connected)


def _tables(root: str) -> tuple[list[str], list[Gap]]:
    """Return the files to read, and what they do not show."""
    gaps = []
    paths = [f"{root}/tcp"]
    # A kernel without IPv6 has no such file; one that may not be read hides sockets.
    refusal = _refusal(f"{root}/tcp6")
    if refusal is None:
        paths.append(f"{root}/tcp6")
    elif not isinstance(refusal, FileNotFoundError):
        why = f"{root}/tcp6 cannot be read ({refusal.strerror}): no IPv6 socket was seen"
        gaps.append(Gap("sockets", why, "allow reading it, or use --source netlink", partial=True))
    how = "let twdiag use netlink (--source netlink tells why it cannot)"
    gaps += [
        Gap("tcp-info", "/proc/net/tcp does not show how long a socket waits", how),
        Gap("bind-mode", "/proc/net/tcp does not show who chose a listener's port", how),
        Gap("bound", "/proc/net/tcp does not show bound, unconnected sockets", how, partial=True),
        Gap("backlog", "/proc/net/tcp does not show a listener's backlog", how),
    ]
    return paths, gaps


def _refusal(path: str) -> OSError | None:
    """Return why a file cannot be read, None where it can."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return error
    return None


def _sockets_of(paths: Iterable[str]) -> Iterator[Socket]:
    for path in paths:
        try:
            with open(path, encoding="ascii", errors="replace") as lines:
                yield from parse_tcp(lines, path)
        except OSError as error:
            raise SourceRefused(
                f"{path} cannot be read: {error.strerror}", "mount /proc, or run on Linux"
            ) from error


def parse_tcp(lines: Iterable[str], path: str = "/proc/net/tcp") -> Iterator[Socket]:
    """Yield the sockets of /proc/net/tcp or tcp6.

    Raises SourceError, quoting the line, where a row is malformed or the head line is missing.
    """
    number = 0
    for number, line in enumerate(lines, start=1):
        if number == 1:
            if "local_address" not in line:
                break
        elif line.strip():
            match = _ROW.match(line)
            state = _STATES.get(match[5].upper()) if match else None
            if match is None or state is None:
                raise SourceError(f"{path}, line {number}: malformed row {line.strip()[:120]!r}")
            yield _socket_of(state, match.groups())
    else:
        if number:
            return
        line = ""
    raise SourceError(f"{path}, line 1: {line.strip()[:120]!r} is not the head of a socket table")


def _socket_of(state: State, fields: tuple[str, ...]) -> Socket:
    local, local_port, remote, remote_port, _, *numbers, uid, probes, inode = fields
    send_q, recv_q, timer, when, retrans = (int(number, 16) for number in numbers)
    if state is State.LISTEN:
        send_q = 0  # the backlog is not in this file; the accept queue is in recv_q
    if timer in (TIMER_KEEPALIVE, TIMER_ZERO_WINDOW):
        retrans = int(probes)  # as sock_diag has it
    return Socket(
        state,
        _address(local),
        int(local_port, 16),
        _address(remote),
        int(remote_port, 16),
        timer,
        min(when * 1000 // _USER_HZ, 0xFFFFFFFF) if timer else 0,
        min(retrans, 255),
        recv_q,
        send_q,
        int(uid) & 0xFFFFFFFF,
        int(inode) & 0xFFFFFFFF,
    )


def _address(digits: str) -> str:
    """Return an address such as 0100007F: native words of network-order bytes."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return text_of(struct.pack(f"={len(words)}I", *words))
