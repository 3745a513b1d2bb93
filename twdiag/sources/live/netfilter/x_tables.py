"""What matches and targets of iptables say about ports: both kinds of its rules hold them.

Layouts: include/uapi/linux/netfilter/xt_tcpudp.h, xt_multiport.h and nf_nat.h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError

if TYPE_CHECKING:
    from twdiag.model.nat import Ports

_MULTIPORT: Final = struct.Struct("=BB15H15BB")  # struct xt_multiport_v1
_TO_SOURCE: Final = 0  # XT_MULTIPORT_SOURCE
_TO_DESTINATION: Final = 1
_PORTS_GIVEN: Final = 2  # NF_NAT_RANGE_PROTO_SPECIFIED
_ADDRESSES_GIVEN: Final = 1  # NF_NAT_RANGE_MAP_IPS
TRANSLATING: Final = {"SNAT": True, "MASQUERADE": True, "DNAT": False, "REDIRECT": False}
"""The targets of iptables that translate, and whether it is the source."""


def match_ports(name: str, info: bytes, revision: int = 0) -> tuple[tuple[Ports, ...] | None, bool]:
    """Return the destination ports that a match of iptables asks for, and if it was understood.

    struct xt_tcp and xt_udp begin with the source ports and the destination ports; flags that
    negate them stand at 11 and at 8.
    """
    if name == "multiport":
        return _many_ports(info) if revision == 1 else (None, False)
    inverted = {"tcp": 11, "udp": 8}.get(name)
    if inverted is not None and len(info) > inverted:
        low, high = struct.unpack_from("=HH", info, 4)
        if (low, high) == (0, 0xFFFF):
            return None, True
        # XT_TCP_INV_DSTPT and XT_UDP_INV_DSTPT are the same bit.
        return (None, False) if info[inverted] & 2 else (((low, high),), True)
    return None, inverted is None


def _many_ports(info: bytes) -> tuple[tuple[Ports, ...] | None, bool]:
    """Return what struct xt_multiport_v1 asks for; a port with a flag begins a range."""
    if len(info) < _MULTIPORT.size:
        return None, False
    which, number, *fields, inverted = _MULTIPORT.unpack_from(info)
    ports, flags = fields[:15], fields[15:]
    if which == _TO_SOURCE:
        return None, True
    if which != _TO_DESTINATION or inverted or not 0 < number <= len(ports):
        return None, False
    ranges: list[Ports] = []
    at = 0
    while at < number:
        last = at + 1 if flags[at] and at + 1 < number else at
        ranges.append((ports[at], ports[last]))
        at = last + 1
    return tuple(ranges), True


def target_range(
    name: str, revision: int, info: bytes
) -> tuple[tuple[bytes, bytes] | None, Ports | None]:
    """Return the addresses and ports of a target's range, None each where it names none.

    IPv4 has struct nf_nat_ipv4_multi_range_compat in revision 0 of all but IPv6 targets, which is
    20 bytes long, else struct nf_nat_range (40) or nf_nat_range2 (44).
    """
    if len(info) >= 40:
        (flags,) = struct.unpack_from("=I", info)
        size = 4 if not any(info[8:20]) and not any(info[24:36]) else 16
        first, last = info[4 : 4 + size], info[20 : 20 + size]
        low, high = struct.unpack_from("!HH", info, 36)
    elif len(info) >= 20:
        (flags,) = struct.unpack_from("=I", info, 4)
        first, last = info[8:12], info[12:16]
        low, high = struct.unpack_from("!HH", info, 16)
    else:
        raise SourceError(f"the target {name} revision {revision} has {len(info)} bytes")
    addresses = (first, last) if flags & _ADDRESSES_GIVEN else None
    return addresses, (min(low, high), max(low, high)) if flags & _PORTS_GIVEN else None
