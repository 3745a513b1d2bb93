"""Find what the NAT rules of nf_tables do with ports, in the bytes of its dumps.

Rules of iptables-nft are there too, with matches and targets of x_tables.  Layout:
include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import SourceError
from twdiag.model.nat import NatRule
from twdiag.sources.live.netfilter.nfnetlink import attribute, attributes
from twdiag.sources.live.netfilter.x_tables import TRANSLATING, match_ports, target_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twdiag.model.nat import Ports

    PortsOf = Callable[[bytes], "tuple[Ports, ...] | None"]

NEW_CHAIN: Final = 10 << 8 | 3  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWCHAIN
GET_CHAIN: Final = 10 << 8 | 4
NEW_RULE: Final = 10 << 8 | 6
GET_RULE: Final = 10 << 8 | 7
NEW_ELEMENTS: Final = 10 << 8 | 12  # NFT_MSG_NEWSETELEM
GET_ELEMENTS: Final = 10 << 8 | 13
PREROUTING, LOCAL_IN, LOCAL_OUT, POSTROUTING = 0, 1, 3, 4  # enum nf_inet_hooks, without FORWARD

_JUMP, _GOTO = -3, -4
_VERDICT_REGISTER: Final = 0
_TRANSPORT: Final = 2  # NFT_PAYLOAD_TRANSPORT_HEADER
_DESTINATION_PORT: Final = (_TRANSPORT, 2, 2)  # base, offset, length
_EQUAL: Final = 0  # NFT_CMP_EQ and NFT_RANGE_EQ
_AT_MOST, _AT_LEAST = 3, 5  # NFT_CMP_LTE, NFT_CMP_GTE
_INVERTED: Final = 1  # NFT_LOOKUP_F_INV
_INTERVAL_END: Final = 1  # NFT_SET_ELEM_INTERVAL_END


class Chain(NamedTuple):
    """A chain; `hook` is where the kernel enters it, None where only other chains do."""

    family: int
    table: bytes
    name: bytes
    hook: int | None = None


class Jump(NamedTuple):
    """A rule that leads to another chain, for these destination ports."""

    chain: bytes
    to: tuple[Ports, ...] | None
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


def elements_request(table: bytes, name: bytes) -> bytes:
    """Return the attributes that ask for the elements of one set."""
    return attribute(1, table + b"\0") + attribute(2, name + b"\0")


def elements_in(raw: bytes, at: int, end: int) -> Iterator[tuple[int, bool]]:
    """Yield the ports in a message about a set, each with whether it only ends an interval.

    Raises SourceError where an element is no port.
    """
    for kind, begin, stop in attributes(raw, at, end):
        if kind != 3:  # NFTA_SET_ELEM_LIST_ELEMENTS
            continue
        for _, first, last in attributes(raw, begin, stop):
            fields = {k: raw[b:e] for k, b, e in attributes(raw, first, last)}
            key = _constant(fields.get(1, b""))
            if len(key) != 2 or 10 in fields:  # NFTA_SET_ELEM_KEY_END: a set of several columns
                raise SourceError("a set of nf_tables holds something else than ports")
            flags = _number(fields, 3) or 0
            yield int.from_bytes(key, "big"), bool(flags & _INTERVAL_END)


def ranges_of(elements: Iterable[tuple[int, bool]]) -> tuple[Ports, ...]:
    """Return the ranges of ports that the elements of a set stand for.

    In a set of intervals each has a second element, the first port behind it, except at the end.
    """
    ordered = sorted(set(elements), key=lambda element: (element[0], not element[1]))
    if not any(ends for _, ends in ordered):
        return tuple((port, port) for port, _ in ordered)
    ranges: list[Ports] = []
    begun: int | None = None
    for port, ends in ordered:
        if begun is not None and (ends or port > begun):
            ranges.append((begun, port - 1))
            begun = None
        if not ends:
            begun = port
    if begun is not None:
        ranges.append((begun, 0xFFFF))
    return tuple(ranges)


def what_rule_does(
    raw: bytes, at: int, end: int, ports_of: PortsOf = lambda _: None
) -> NatRule | Jump | None:
    """Return what one rule does, None where it neither translates nor leads on.

    `ports_of` tells the ports of a set by its name, None where they are not known.
    """
    state = _State(ports_of)
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

    def __init__(self, ports_of: PortsOf) -> None:
        self.to: tuple[Ports, ...] | None = None
        self.certain = True
        self._ports_of = ports_of
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
            self._look_up(fields)
        elif name == "match":
            self._match(_plain(fields.get(1, b"")), fields.get(3, b""), _number(fields, 2) or 0)
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
            self.to = ((low, high),)
        elif name == "cmp" and operator == _AT_LEAST:
            self.to = ((low, self.to[0][1] if self.to else 0xFFFF),)
        elif name == "cmp" and operator == _AT_MOST:
            self.to = ((self.to[0][0] if self.to else 0, high),)
        else:
            self.certain = False

    def _look_up(self, fields: dict[int, bytes]) -> None:
        """Take the ports of a set; those of a map lead to different places each."""
        if self._port_in is None or _number(fields, 2) != self._port_in:
            return
        inverted = (_number(fields, 5) or 0) & _INVERTED
        plain = not inverted and 3 not in fields  # NFTA_LOOKUP_DREG
        ports = self._ports_of(fields.get(1, b"").rstrip(b"\0")) if plain else None
        self.to, self.certain = ports or self.to, self.certain and ports is not None

    def _match(self, name: str, info: bytes, revision: int) -> None:
        to, understood = match_ports(name, info, revision)
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
