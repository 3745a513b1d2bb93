"""Read sockets, counters and sysctls from /proc: the fallback for sockets, the source for the rest.

Parsers take text and are pure; an error quotes file, line number and line.  Formats:
Documentation/networking/proc_net_tcp.rst, net/ipv4/proc.c, and get_tcp4_sock() and
get_timewait4_sock() in net/ipv4/tcp_ipv4.c.
"""

from __future__ import annotations

import os
import re
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import text_of
from twdiag.errors import SourceError, SourceRefused
from twdiag.model.ports import parse_range
from twdiag.model.snapshot import Gap
from twdiag.model.sockets import TIMER_KEEPALIVE, TIMER_ZERO_WINDOW, Socket
from twdiag.sources.live.seen import Seen, Streamed, census_of_sockets, is_unconnected
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_USER_HZ: Final = os.sysconf("SC_CLK_TCK")
_ENDPOINT: Final = r"([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):([0-9A-Fa-f]{4})"
# sl, local and remote end, state, tx:rx queue, timer:when, retransmits, uid, probes, inode
_ROW: Final = (
    rf"\s*\d+:\s+{_ENDPOINT}\s+{_ENDPOINT}\s+([0-9A-Fa-f]{{2}})"
    r"\s+([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8})\s+([0-9A-Fa-f]{2}):([0-9A-Fa-f]{8,16})"
    r"\s+([0-9A-Fa-f]{8})\s+(\d{1,10})\s+(\d{1,10})\s+(\d{1,20})(?:\s|$)"
)
_STATES: Final = {f"{state:02X}": state for state in State} | {"0C": State.SYN_RECV}
_INTEGER: Final = re.compile(r"-?\d{1,20}", re.ASCII)


def read_text(path: str) -> str | None:
    """Return a file of /proc as text, None where it is absent or may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return None


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
    number, row = (
        0,
        re.compile(_ROW, re.ASCII),
    )  # here: netlink, the usual reader, has no use for it
    for number, line in enumerate(lines, start=1):
        if number == 1:
            if "local_address" not in line:
                break
        elif line.strip():
            match = row.match(line)
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


def parse_sockstat(text: str) -> dict[str, int]:
    """Return {"TCP.tw": 12, ...} of /proc/net/sockstat; words that are not pairs are left out."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        for key, value in zip(words[::2], words[1::2], strict=False):
            if _INTEGER.fullmatch(value):
                values[f"{name.strip()}.{key}"] = int(value)
    return values


def parse_counters(text: str, path: str = "/proc/net/netstat") -> dict[str, int]:
    """Return {"TcpExt.TW": 5, ...} of /proc/net/netstat or snmp.

    Lines come in pairs, names above values.  Raises SourceError where a name line has no value line
    or where a pair is of unequal length: nobody knows then which value belongs to which name.
    """
    values: dict[str, int] = {}
    lines = [line for line in enumerate(text.splitlines(), start=1) if line[1].strip()]
    if len(lines) % 2:
        number, line = lines[-1]
        raise SourceError(f"{path}, line {number}: names without values {line[:40]!r}")
    for (_, names), (number, counts) in zip(lines[::2], lines[1::2], strict=True):
        group, *keys = names.split()
        other, *counted = counts.split()
        if group != other or not group.endswith(":"):
            raise SourceError(f"{path}, line {number}: {other[:40]!r} follows {group[:40]!r}")
        group = group[:-1]
        if len(keys) != len(counted):
            what = f"{len(counted)} values for {len(keys)} names of {group[:40]!r}"
            raise SourceError(f"{path}, line {number}: {what}")
        for key, count in zip(keys, counted, strict=True):
            if not _INTEGER.fullmatch(count):
                raise SourceError(f"{path}, line {number}: {key[:40]} is {count[:40]!r}")
            values[f"{group}.{key}"] = int(count)
    return values


def read_counters(root: str = "/proc/net") -> tuple[dict[str, int], dict[str, int], list[Gap]]:
    """Return (counters, sockstat, gaps) of this namespace."""
    counters: dict[str, int] = {}
    gaps: list[Gap] = []
    for name in ("netstat", "snmp"):
        text = read_text(f"{root}/{name}")
        try:
            if text is None:
                raise SourceError(f"{root}/{name} cannot be read")
            counters.update(parse_counters(text, f"{root}/{name}"))
        except SourceError as error:
            gaps.append(Gap(name, error.what, "mount /proc and allow reading it"))
    text = read_text(f"{root}/sockstat")
    sockstat = parse_sockstat(text) if text is not None else {}
    sockstat.update(parse_sockstat(read_text(f"{root}/sockstat6") or ""))
    if "TCP.tw" not in sockstat:
        why = f"{root}/sockstat cannot be read" if text is None else "sockstat has no TCP line"
        gaps.append(Gap("sockstat", why, "mount /proc and allow reading it"))
    return counters, sockstat, gaps


SYSCTLS: Final = (
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_ehash_entries",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_rfc1337",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_recycle",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_tw_reuse_delay",
    "net.core.somaxconn",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
)
_PORT_RANGE: Final = "net.ipv4.ip_local_port_range"
OPTIONAL_SYSCTLS: Final = frozenset(
    {
        "net.ipv4.tcp_ehash_entries",  # Linux 6.1
        "net.ipv4.tcp_max_orphans",  # not shown in a child namespace on some kernels
        "net.ipv4.tcp_tw_recycle",  # gone since 4.12
        "net.ipv4.tcp_tw_reuse_delay",  # Linux 6.14
        "net.netfilter.nf_conntrack_tcp_timeout_established",  # with connection tracking only
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    }
)


def read_sysctls(
    names: Iterable[str] = SYSCTLS, root: str = "/proc/sys"
) -> tuple[dict[str, str], list[Gap]]:
    """Return the sysctls that can be read, and a gap for each that should be there and is not."""
    values: dict[str, str] = {}
    gaps: list[Gap] = []
    for name in names:
        text = read_text(f"{root}/{name.replace('.', '/')}")
        if text is not None and (name != _PORT_RANGE or parse_range(text)):
            values[name] = " ".join(text.split())
        elif name not in OPTIONAL_SYSCTLS:
            gaps.append(Gap(name, f"the sysctl {name} cannot be read", "mount /proc/sys"))
    return values, gaps
