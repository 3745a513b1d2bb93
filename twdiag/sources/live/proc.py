"""Read files of /proc: text, bytes, what a process is, counters and sysctls.

Parsers take text and are pure; an error quotes file, line number and line.  Format:
net/ipv4/proc.c.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError
from twdiag.model.ports import parse_range
from twdiag.model.snapshot import Gap
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE: Final = 1 << 16
_INTEGER: Final = re.compile(r"-?\d{1,20}", re.ASCII)


def read_text(path: str) -> str | None:
    """Return a file of /proc as text, None where it is absent or may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return None


def read_bytes(path: str, most: int = 1 << 23) -> bytes:
    """Return a file of /proc that is shown in one piece, at most so many bytes; raises OSError.

    Such a file (single_open() in the kernel) gives a short read only at its end.  Without Python's
    file object, which takes three times the system calls.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        data = os.read(file, _PIECE)
        if len(data) < _PIECE:
            return data
        parts = [data]
        while len(parts[-1]) == _PIECE and len(parts) * _PIECE < most:
            parts.append(os.read(file, _PIECE))
        return b"".join(parts)
    finally:
        os.close(file)


def all_pids() -> list[int]:
    """Return the numbers of all processes that are shown, none where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


class Stat(NamedTuple):
    """What /proc/PID/stat says of a process; `started` is in clock ticks since boot."""

    parent: int
    group: int
    session: int
    started: int


def parse_stat(data: bytes) -> Stat | None:
    """Return what a stat file says, None where it makes no sense: proc_pid_stat(5).

    The process's name stands before in parentheses, and may hold blanks and parentheses itself.
    """
    _, bracket, rest = data.rpartition(b")")
    fields = rest.split() if bracket else []
    try:
        return Stat(int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
    except (IndexError, ValueError):
        return None


def read_stat(pid: int, proc: str = "/proc") -> Stat | None:
    """Return what is shown of a process to anybody, None where it is gone or hidden; 10 us."""
    try:
        return parse_stat(read_bytes(f"{proc}/{pid}/stat"))
    except OSError:
        return None


def start_of(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where that is not shown."""
    stat = read_stat(pid)
    return None if stat is None else stat.started


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
