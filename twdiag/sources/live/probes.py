"""Ask this kernel what it shows and allows, by trying it and never by its version.

Nothing is changed: sockets of this process's own are opened and closed again.
"""

from __future__ import annotations

import math
import os
import re
import socket
import struct
from typing import TYPE_CHECKING, Final

from twdiag.sources.live.proc import all_pids, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_NETLINK_SOCK_DIAG: Final = 4
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_TCP_DESTROY: Final = 1  # SKNLGRP_INET_TCP_DESTROY, include/uapi/linux/sock_diag.h
_IPPROTO_MPTCP: Final = 262
_TIME_WAIT_BIT: Final = 1 << 6
_TRACEFS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_HEADER: Final = struct.Struct("=IHHII")
_EXPIRES_AT: Final = _HEADER.size + 52
_ATTRIBUTES_AT: Final = 72
_MOST_TIMERS: Final = 2000
_FEWEST_TIMERS: Final = 30
_QUIET_SECONDS: Final = 5.0
# include/uapi/linux/capability.h: those that let twdiag see more.
CAPABILITIES: Final = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
_HIDEPID: Final = re.compile(r"\bhidepid=(\w+)")


def dump(states: int, *, info: bool = False, protocol: int = socket.IPPROTO_TCP) -> list[bytes]:
    """Return rows (struct inet_diag_msg and attributes) of the IPv4 sockets in some states.

    No more than the first 2000 or so.  Raises OSError where the kernel refuses.
    """
    attribute = struct.pack("=HHI", 8, 3, protocol) if protocol > 255 else b""
    body = struct.pack("=BBBxI48x", socket.AF_INET, min(protocol, 255), 2 * info, states)
    length = _HEADER.size + len(body) + len(attribute)
    rows: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as channel:
        channel.settimeout(_QUIET_SECONDS)
        channel.sendto(_HEADER.pack(length, 20, 0x301, 1, 0) + body + attribute, (0, 0))
        while len(rows) < _MOST_TIMERS:
            found, ended = split(channel.recv(1 << 16))
            rows += found
            if ended:
                break
    return rows


def split(datagram: bytes) -> tuple[list[bytes], bool]:
    """Return the rows of a datagram and whether the dump ends; pure.

    Raises OSError with the kernel's errno where it ends in a refusal.
    """
    rows, at = list[bytes](), 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            return rows, True
        if kind in (2, 3):  # NLMSG_ERROR, NLMSG_DONE
            has_errno = length >= _HEADER.size + 4
            number = -struct.unpack_from("=i", datagram, at + _HEADER.size)[0] if has_errno else 0
            if number > 0:
                raise OSError(number, os.strerror(number) if number < 4096 else "unknown error")
            return rows, True
        if length >= _HEADER.size + _ATTRIBUTES_AT:
            rows.append(datagram[at + _HEADER.size : at + length])
        at += (length + 3) & ~3
    return rows, False


def shows_ages() -> bool | None:
    """Return whether sock_diag tells the ages of sockets (tcp_info), None without a socket."""
    rows = dump(0xFFF & ~_TIME_WAIT_BIT, info=True)
    sizes = [len(row) - _ATTRIBUTES_AT for row in rows]
    return max(sizes) > 60 if sizes else None  # struct tcp_info has some 200 bytes and more


def shows_mptcp() -> bool:
    """Return whether the kernel dumps MPTCP connections."""
    try:
        dump(1 << 1, protocol=_IPPROTO_MPTCP)
    except OSError:
        return False
    return os.path.exists("/proc/sys/net/mptcp/enabled")


def tells_of_closes() -> bool:
    """Return whether the kernel tells this user of each socket that dies."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as channel:
            channel.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _TCP_DESTROY)
    except OSError:
        return False
    return True


def may_trace() -> bool:
    """Return whether the trace events of sockets are there and may be used."""
    return any(
        os.path.exists(f"{folder}/events/sock/inet_sock_set_state/format")
        and os.access(f"{folder}/instances", os.W_OK)
        for folder in _TRACEFS
    )


def has_namespaces() -> bool:
    """Return whether network namespaces can be told apart."""
    return os.path.exists("/proc/self/ns/net") and os.path.exists("/proc/self/net/tcp")


def time_wait_timers() -> list[int]:
    """Return how long some TIME_WAITs still last, milliseconds."""
    at = _EXPIRES_AT - _HEADER.size
    return [struct.unpack_from("=I", row, at)[0] for row in dump(_TIME_WAIT_BIT)]


def hertz_of(timers: Iterable[int]) -> int | None:
    """Return the kernel's HZ as the steps of its timers show it, None with too few of them; pure.

    Milliseconds are whole ticks: multiples of 4 at 250 Hz, of 10 at 100; at 300 they end in 0, 3
    or 6.
    """
    found = [timer for timer in set(timers) if timer]
    if len(found) < _FEWEST_TIMERS:
        return None
    step = math.gcd(*found)
    if step % 10 == 0:
        return 100
    if step % 4 == 0:
        return 250
    return 300 if {timer % 10 for timer in found} <= {0, 3, 6} else 1000


def capabilities(status: str) -> frozenset[str] | None:
    """Return which of CAPABILITIES are effective by /proc/self/status, None unseen; pure."""
    match = re.search(r"^CapEff:\s*([0-9a-fA-F]{1,16})$", status, re.MULTILINE)
    if match is None:
        return None
    bits = int(match[1], 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if bits >> bit & 1)


def is_filtered(status: str) -> bool:
    """Return whether a seccomp filter is on, by /proc/self/status; pure."""
    return re.search(r"^Seccomp:\s*2$", status, re.MULTILINE) is not None


def hidepid(mountinfo: str) -> str | None:
    """Return the hidepid of /proc by /proc/self/mountinfo, None where it hides nothing; pure."""
    for line in mountinfo.splitlines():
        if " /proc " in line and " - proc " in line and (match := _HIDEPID.search(line)):
            return None if match[1] in ("0", "off") else match[1]
    return None


def status() -> str:
    """Return /proc/self/status, "" where it cannot be read."""
    return read_text("/proc/self/status") or ""


def readable_processes() -> tuple[int, int]:
    """Return of how many processes the descriptors may be read, and how many there are."""
    pids = all_pids()
    return sum(_may_read(pid) for pid in pids), len(pids)


def _may_read(pid: int) -> bool:
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd")[:1]:
            os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return False
    return True
