"""Find what the NAT rules of the old iptables do with ports: its table is one block of bytes.

Layout: include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter/x_tables.h.  nf_tables does not
show these rules, and iptables-nft does not make them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError
from twdiag.model.nat import NatRule
from twdiag.sources.live.netfilter.nfnetlink import refused
from twdiag.sources.live.netfilter.x_tables import TRANSLATING, match_ports, target_range
from twdiag.sources.live.proc import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES: Final = "/proc/net/ip_tables_names"
_TABLE: Final = b"nat"
_LOCAL_OUT: Final = 3  # enum nf_inet_hooks
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES
# struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
_INFO: Final = struct.Struct("=32sI5I5III")
_ENTRIES_HEAD: Final = struct.Struct("=32sI4x")  # struct ipt_get_entries
# The end of struct ipt_entry: offsets of its target and of the next entry, at 88.
_OFFSETS: Final = struct.Struct("=88xHH20x")
_PART: Final = struct.Struct("=H29sB")  # struct xt_entry_match and xt_entry_target
_MOST_BYTES: Final = 1 << 26


def read_ip_tables() -> list[NatRule]:
    """Return the NAT rules of the old iptables; none where its table does not exist.

    Raises SourceRefused where it is there and may not be read.
    """
    if "nat" not in (read_text(_NAMES) or "").split():
        return []
    info = _INFO.unpack(_ask(_GET_INFO, _TABLE.ljust(_INFO.size, b"\0")))
    size, outputs = info[-1], (info[2 + _LOCAL_OUT], info[7 + _LOCAL_OUT])
    if size > _MOST_BYTES:
        raise SourceError(f"the iptables table has {size:,} bytes", "list it: iptables -t nat -S")
    request = _ENTRIES_HEAD.pack(_TABLE, size) + bytes(size)
    return list(rules_in(_ask(_GET_ENTRIES, request)[_ENTRIES_HEAD.size :], outputs))


def rules_in(raw: bytes, outputs: tuple[int, int]) -> Iterator[NatRule]:
    """Yield the NAT rules of a table; `outputs` are where OUTPUT's first and last rule stand.

    Of a chain that others jump to it is not told who they are.
    """
    at = 0
    while at + _OFFSETS.size <= len(raw):
        target, following = _OFFSETS.unpack_from(raw, at)
        if following < _OFFSETS.size or target < _OFFSETS.size or at + following > len(raw):
            raise SourceError(f"an iptables rule at byte {at} claims {following} bytes")
        rule = _rule(raw, at, at + target, at + following)
        if rule is not None:
            yield rule._replace(local=outputs[0] <= at <= outputs[1])
        at += following


def _rule(raw: bytes, begin: int, target: int, end: int) -> NatRule | None:
    size, name, revision = _part(raw, target, end)
    if name not in TRANSLATING:
        return None
    info = raw[target + _PART.size : target + size]
    addresses, ports = target_range(name, revision, info)
    to, certain = None, True
    at = begin + _OFFSETS.size
    while at < target:
        size, match, version = _part(raw, at, target)
        found, understood = match_ports(match, raw[at + _PART.size : at + size], version)
        to, certain = found or to, certain and understood
        at += size
    return NatRule(TRANSLATING[name], addresses, ports, to, certain)


def _part(raw: bytes, at: int, end: int) -> tuple[int, str, int]:
    """Return size, name and revision of a match or a target."""
    if at + _PART.size > end:
        raise SourceError(f"a part of an iptables rule is cut at byte {at}")
    size, name, revision = _PART.unpack_from(raw, at)
    if size < _PART.size or at + size > end:
        raise SourceError(f"a part of an iptables rule at byte {at} claims {size} bytes")
    return size, name.partition(b"\0")[0].decode("ascii", "replace"), revision


def _ask(option: int, request: bytes) -> bytes:
    """Return what getsockopt() makes of a request; Python's own sends none."""
    import ctypes
    import socket

    buffer = ctypes.create_string_buffer(request, len(request))
    length = ctypes.c_uint(len(request))
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as channel:
            failed = libc.getsockopt(
                channel.fileno(), socket.SOL_IP, option, buffer, ctypes.byref(length)
            )
            number = ctypes.get_errno()
    except OSError as error:
        raise refused("iptables", error.errno or 0) from error
    if failed:
        raise refused("iptables", number)
    return buffer.raw[: length.value]
