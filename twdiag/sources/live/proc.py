"""Read sockets, counters and sysctls from /proc: the fallback for sockets, the source for the rest.

Parsers take text and are pure; an error quotes file, line number and line.  Formats:
Documentation/networking/proc_net_tcp.rst, net/ipv4/proc.c, and get_tcp4_sock() and
get_timewait4_sock() in net/ipv4/tcp_ipv4.c.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING, Final

from twdiag.census.table import TIMER_KEEPALIVE, TIMER_ZERO_WINDOW, SocketTable
from twdiag.errors import SourceError, SourceRefused
from twdiag.model import Gap
from twdiag.model.ports import parse_range
from twdiag.sources.live.seen import Seen
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_INTEGER: Final = re.compile(r"-?\d{1,20}", re.ASCII)


def read_text(path: str) -> str | None:
    """Return a file of /proc as text, None where it is absent or may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return None


def read_proc(root: str = "/proc/net") -> Seen:
    """Return the sockets of /proc/net/tcp and tcp6.

    They have timers, queues and inodes, but no ages, cookies, IPV6_V6ONLY or bind mode, and no
    bound, unconnected sockets.  Raises SourceRefused where /proc/net/tcp cannot be read.
    """
    table = SocketTable()
    for name, required in (("tcp", True), ("tcp6", False)):
        path = f"{root}/{name}"
        text = read_text(path)
        if text is not None:
            parse_tcp(text, table, path)
        elif required:
            raise SourceRefused(f"{path} cannot be read", "mount /proc, or run on Linux")
    how = "let twdiag use netlink (--source netlink tells why it cannot)"
    return Seen(
        table,
        gaps=[
            Gap("tcp-info", "/proc/net/tcp does not show how long a socket waits", how),
            Gap("bind-mode", "/proc/net/tcp does not show who chose a listener's port", how),
            Gap(
                "bound", "/proc/net/tcp does not show bound, unconnected sockets", how, partial=True
            ),
            Gap("backlog", "/proc/net/tcp does not show a listener's backlog", how),
        ],
    )


def parse_tcp(text: str, table: SocketTable, path: str = "/proc/net/tcp") -> None:
    """Append the rows of /proc/net/tcp or tcp6 to a table.

    Raises SourceError, quoting the line, where a row is malformed or the head line is missing.
    """
    lines = text.splitlines()
    if not lines or "local_address" not in lines[0]:
        head = lines[0][:120] if lines else ""
        raise SourceError(f"{path}, line 1: {head!r} is not the head of a socket table")
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        match = _ROW.match(line)
        state = _STATES.get(match[5].upper()) if match else None
        if match is None or state is None:
            raise SourceError(f"{path}, line {number}: malformed row {line[:120]!r}")
        _add_row(state, match.groups(), table)


def _add_row(state: State, fields: tuple[str, ...], table: SocketTable) -> None:
    local, local_port, remote, remote_port, _, *numbers, uid, probes, inode = fields
    send_q, recv_q, timer, when, retrans = (int(number, 16) for number in numbers)
    if state is State.LISTEN:
        send_q = 0  # the backlog is not in this file; the accept queue is in recv_q
    if timer in (TIMER_KEEPALIVE, TIMER_ZERO_WINDOW):
        retrans = int(probes)  # as sock_diag has it
    table.state.append(state)
    table.timer.append(timer)
    table.retrans.append(min(retrans, 255))
    table.expires.append(min(when * 1000 // _USER_HZ, 0xFFFFFFFF) if timer else 0)
    table.src.append(_address(local, table))
    table.sport.append(int(local_port, 16))
    table.dst.append(_address(remote, table))
    table.dport.append(int(remote_port, 16))
    table.recv_q.append(recv_q)
    table.send_q.append(send_q)
    table.uid.append(int(uid) & 0xFFFFFFFF)
    table.inode.append(int(inode) & 0xFFFFFFFF)
    table.cookie.append(0)


def _address(digits: str, table: SocketTable) -> int:
    """Return the number of an address such as 0100007F: native words of network-order bytes."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return table.addresses.of_bytes(struct.pack(f"={len(words)}I", *words))


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
)
_PORT_RANGE: Final = "net.ipv4.ip_local_port_range"
_OPTIONAL_SYSCTLS: Final = frozenset(
    {
        "net.ipv4.tcp_ehash_entries",  # Linux 6.1
        "net.ipv4.tcp_max_orphans",  # not shown in a child namespace on some kernels
        "net.ipv4.tcp_tw_recycle",  # gone since 4.12
        "net.ipv4.tcp_tw_reuse_delay",  # Linux 6.14
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
        elif name not in _OPTIONAL_SYSCTLS:
            gaps.append(Gap(name, f"the sysctl {name} cannot be read", "mount /proc/sys"))
    return values, gaps
