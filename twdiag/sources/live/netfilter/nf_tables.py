"""Find what the NAT rules of nf_tables do with ports, in the bytes of its dumps.

Rules of iptables-nft are there too, with targets of iptables.  Layouts:
include/uapi/linux/netfilter/nf_tables.h, nf_nat.h and x_tables.h (struct xt_entry_target).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import SourceError
from twdiag.model.nat import NatRule
from twdiag.sources.live.netfilter.nfnetlink import attribute, attributes

if TYPE_CHECKING:
    from twdiag.model.nat import Ports

NEW_CHAIN: Final = 10 << 8 | 3  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWCHAIN
GET_CHAIN: Final = 10 << 8 | 4
NEW_RULE: Final = 10 << 8 | 6
GET_RULE: Final = 10 << 8 | 7
PREROUTING, LOCAL_IN, LOCAL_OUT, POSTROUTING = 0, 1, 3, 4  # enum nf_inet_hooks, without FORWARD

_JUMP, _GOTO = -3, -4
_VERDICT_REGISTER: Final = 0
_TRANSPORT: Final = 2  # NFT_PAYLOAD_TRANSPORT_HEADER
_DESTINATION_PORT: Final = (_TRANSPORT, 2, 2)  # base, offset, length
_EQUAL: Final = 0  # NFT_CMP_EQ and NFT_RANGE_EQ
_AT_MOST, _AT_LEAST = 3, 5  # NFT_CMP_LTE, NFT_CMP_GTE
_PORTS_GIVEN: Final = 2  # NF_NAT_RANGE_PROTO_SPECIFIED
_ADDRESSES_GIVEN: Final = 1  # NF_NAT_RANGE_MAP_IPS
TRANSLATING: Final = {"SNAT": True, "MASQUERADE": True, "DNAT": False, "REDIRECT": False}
"""The targets of iptables that translate, and whether it is the source."""


class Chain(NamedTuple):
    """A chain; `hook` is where the kernel enters it, None where only other chains do."""

    family: int
    table: bytes
    name: bytes
    hook: int | None = None


class Jump(NamedTuple):
    """A rule that leads to another chain, for these destination ports."""

    chain: bytes
    to: Ports | None
    certain: bool


def nat_chain(raw: bytes, at: int, end: int) -> Chain | None:
    """Return a base chain of type nat, None for any other chain; `at` is behind the nfgenmsg."""
    if raw.find(b"nat\0", at, end) < 0:  # most chains of a cluster's node are not base chains
        return None
    table = name = kind = b""
    hook = None
    for which, begin, stop in attributes(raw, at, end):
        if which == 1:
            table = _string(raw, begin, stop)
        elif which == 3:
            name = _string(raw, begin, stop)
        elif which == 4:
            found = {k: raw[b:e] for k, b, e in attributes(raw, begin, stop)}
            hook = int.from_bytes(found.get(1, b""), "big")
        elif which == 7:
            kind = _string(raw, begin, stop)
    if kind != b"nat" or hook is None:
        return None
    return Chain(raw[at - 4], table, name, hook)


def rule_request(chain: Chain) -> bytes:
    """Return the attributes that ask for the rules of one chain."""
    return attribute(1, chain.table + b"\0") + attribute(2, chain.name + b"\0")


def what_rule_does(raw: bytes, at: int, end: int) -> NatRule | Jump | None:
    """Return what one rule does, None where it neither translates nor leads on."""
    state = _State()
    for which, begin, stop in attributes(raw, at, end):
        if which != 4:  # NFTA_RULE_EXPRESSIONS
            continue
        for _, first, last in attributes(raw, begin, stop):
            parts = {k: raw[b:e] for k, b, e in attributes(raw, first, last)}
            found = state.step(_plain(parts.get(1, b"")), parts.get(2, b""))
            if found is not None:
                return found
    return None


class _State:
    """What a rule has done so far: registers with constants, and what it asked of the port."""

    def __init__(self) -> None:
        self.to: Ports | None = None
        self.certain = True
        self._constants: dict[int, bytes] = {}
        self._port_in: int | None = None

    def step(self, name: str, data: bytes) -> NatRule | Jump | None:
        """Take one expression; return what the rule does once that is known."""
        fields = {kind: data[at:end] for kind, at, end in attributes(data, 0, len(data))}
        if name == "immediate":
            return self._immediate(fields)
        if name == "payload":
            place = tuple(_number(fields, key) for key in (2, 3, 4))
            if place == _DESTINATION_PORT:
                self._port_in = _number(fields, 1)
        elif name in ("cmp", "range"):
            self._compare(name, fields)
        elif name == "lookup":
            self.certain &= _number(fields, 2) != self._port_in
        elif name == "match":
            self._match(_plain(fields.get(1, b"")), fields.get(3, b""))
        elif name in ("nat", "masq", "redir"):
            return self._translate(name, fields)
        elif name == "target":
            return self._target(_plain(fields.get(1, b"")), _number(fields, 2), fields.get(3, b""))
        return None

    def _immediate(self, fields: dict[int, bytes]) -> Jump | None:
        register, data = _number(fields, 1), fields.get(2, b"")
        for kind, begin, end in attributes(data, 0, len(data)):
            if kind == 1 and register is not None:
                self._constants[register] = data[begin:end]
            elif kind == 2 and register == _VERDICT_REGISTER:
                verdict = {k: data[b:e] for k, b, e in attributes(data, begin, end)}
                code = int.from_bytes(verdict.get(1, b""), "big", signed=True)
                if code in (_JUMP, _GOTO):
                    return Jump(verdict.get(2, b"").rstrip(b"\0"), self.to, self.certain)
        return None

    def _compare(self, name: str, fields: dict[int, bytes]) -> None:
        if self._port_in is None or _number(fields, 1) != self._port_in:
            return
        operator = _number(fields, 2)
        low = _port(_constant(fields.get(3, b"")))
        high = _port(_constant(fields.get(4, b""))) if name == "range" else low
        if low is None or high is None:
            self.certain = False
        elif operator == _EQUAL:
            self.to = (low, high)
        elif name == "cmp" and operator == _AT_LEAST:
            self.to = (low, self.to[1] if self.to else 0xFFFF)
        elif name == "cmp" and operator == _AT_MOST:
            self.to = (self.to[0] if self.to else 0, high)
        else:
            self.certain = False

    def _match(self, name: str, info: bytes) -> None:
        to, understood = match_ports(name, info)
        self.to = to or self.to
        self.certain &= understood

    def _translate(self, name: str, fields: dict[int, bytes]) -> NatRule:
        if name == "nat":
            first, last = self._pair(fields, 3)
            addresses = None if first is None else (first, last or first)
            ports = self._ports(fields, 5)
            return self._rule(_number(fields, 1) == 0, addresses, ports)
        return self._rule(name == "masq", None, self._ports(fields, 2 if name == "masq" else 1))

    def _pair(self, fields: dict[int, bytes], key: int) -> tuple[bytes | None, bytes | None]:
        low, high = _number(fields, key), _number(fields, key + 1)
        found = [None if r is None else self._constants.get(r) for r in (low, high)]
        return found[0], found[1]

    def _ports(self, fields: dict[int, bytes], key: int) -> Ports | None:
        low, high = self._pair(fields, key)
        first = _port(low or b"")
        return None if first is None else (first, _port(high or b"") or first)

    def _target(self, name: str, revision: int | None, info: bytes) -> NatRule | None:
        """Return what a target of iptables does, None for one that translates nothing."""
        if name not in TRANSLATING:
            return None
        addresses, ports = target_range(name, revision or 0, info)
        return self._rule(TRANSLATING[name], addresses, ports)

    def _rule(
        self, source: bool, addresses: tuple[bytes, bytes] | None, ports: Ports | None
    ) -> NatRule:
        return NatRule(source, addresses, ports, self.to, self.certain)


def match_ports(name: str, info: bytes) -> tuple[Ports | None, bool]:
    """Return the destination ports that a match of iptables asks for, and if it was understood.

    struct xt_tcp and xt_udp begin with the source ports and the destination ports.
    """
    if name == "multiport":
        return None, False
    if name in ("tcp", "udp") and len(info) >= 8:
        low, high = struct.unpack_from("=HH", info, 4)
        return ((low, high) if (low, high) != (0, 0xFFFF) else None), True
    return None, True


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


def _string(raw: bytes, begin: int, end: int) -> bytes:
    return raw[begin:end].rstrip(b"\0")


def _plain(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace")


def _number(fields: dict[int, bytes], key: int) -> int | None:
    return int.from_bytes(fields[key], "big") if fields.get(key) else None


def _constant(data: bytes) -> bytes:
    """Return NFTA_DATA_VALUE of a nest."""
    return next((data[b:e] for k, b, e in attributes(data, 0, len(data)) if k == 1), b"")


def _port(raw: bytes) -> int | None:
    """Return a port of a register: its first two bytes, in network order."""
    return int.from_bytes(raw[:2], "big") if len(raw) >= 2 else None
