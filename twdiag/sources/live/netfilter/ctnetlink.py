"""Count the entries of connection tracking in the bytes of its dump.

Layout: include/uapi/linux/netfilter/nfnetlink_conntrack.h.  Entries of one SNAT and state differ in
their client alone, so the decoder looks at the few bytes that tell groups apart and makes no value
of the rest.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.addresses import text_of
from twdiag.errors import SourceError
from twdiag.model.conntrack import STATES, Snat
from twdiag.model.nat import SOURCE_CLASSES
from twdiag.sources.live.netfilter.nfnetlink import DONE, ERROR, attributes, messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twdiag.model.nat import NatRule, Ports

GET: Final = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
NEW: Final = 1 << 8
GET_COUNTERS: Final = 1 << 8 | 4  # IPCTNL_MSG_CT_GET_STATS_CPU
_COUNTERS: Final = (9, 10, 11)  # CTA_STATS_INSERT_FAILED, CTA_STATS_DROP, CTA_STATS_EARLY_DROP
_TUPLE_ORIG, _TUPLE_REPLY, _PROTOINFO, _ZONE = 1, 2, 4, 18
_NO_ZONE: Final = b"\0\0"
_IP, _PROTO = 1, 2
_TCP: Final = 6
_MOST_RANGES: Final = 120
"""With two cuts for each range a stretch has a number that fits a byte."""

# The two tuples of an IPv4 TCP entry as every kernel writes them: heads of attributes apart from
# values, so that one comparison tells whether an entry is of this plain shape.
_PLAIN_TUPLE: Final = "12s4s4s4s16s2s6s2s2x"
_PLAIN: Final = struct.Struct("=" + 2 * _PLAIN_TUPLE)
_ZONE_HEAD: Final = struct.pack("=HH", 6, _ZONE)
_PLAIN_HEADS: Final = tuple(
    (
        struct.pack("=HHHHHH", 52, 0x8000 | which, 20, 0x8000 | _IP, 8, 1),
        struct.pack("=HH", 8, 2),
        struct.pack("=HHHHB3xHH", 28, 0x8000 | _PROTO, 5, 1, _TCP, 6, 2),
        struct.pack("=2xHH", 6, 3),
    )
    for which in (_TUPLE_ORIG, _TUPLE_REPLY)
)


class TrackedEnds(NamedTuple):
    """The ends of a TCP connection, as they stand in an entry."""

    source: bytes
    destination: bytes
    destination_port: bytes
    source_port: bytes


class _Group(NamedTuple):
    """What entries are counted by.

    `ends` are zone, source address, destination and port in one piece, which is hashed once;
    `stretch` is where the source port lies.
    """

    ends: bytes
    state: int
    translated: bool
    stretch: int


class Entries:
    """Counts the entries of a dump by SNAT and state; `done` turns True at its end.

    `rules` are the SNAT rules: they tell which ports a new connection can get.
    """

    def __init__(self, rules: Iterable[NatRule] = ()) -> None:
        self.done = False
        self.others = 0
        self._rules = [rule for rule in rules if rule.source and rule.ports][:_MOST_RANGES]
        self._cuts = _cuts([*SOURCE_CLASSES, *(rule.ports for rule in self._rules if rule.ports)])
        self._stretch_of = _stretches(self._cuts)
        self._groups: Counter[tuple[bytes, int, bool, int]] = Counter()
        # Where the state of an entry of a length was last found, and the 12 bytes before it.
        self._places: dict[int, tuple[int, bytes]] = {}

    def feed(self, datagram: bytes) -> None:
        """Count the entries of one datagram.

        Raises SourceRefused where the kernel refuses the dump, SourceError where the bytes make no
        sense.
        """
        for kind, at, end in messages(datagram):
            if kind == NEW:
                if not self._plain(datagram, at, end - at):
                    self._entry(datagram, at, end)
            elif kind in (ERROR, DONE):
                self.done = True

    def _plain(self, raw: bytes, at: int, length: int) -> bool:
        """Count an entry of the plain shape, three times as fast; return whether it was one."""
        place, head = self._places.get(length, (0, b""))
        if not place or raw[at + place - 12 : at + place] != head:
            return False
        a, source, b, _, c, port, d, _, e, target, f, address, g, target_port, h, own = (
            _PLAIN.unpack_from(raw, at)
        )
        if ((a, b, c, d), (e, f, g, h)) != _PLAIN_HEADS:
            return False
        translated = address != source or own != port
        stretch = self._stretch_of[own[0] << 8 | own[1]]
        after = at + _PLAIN.size
        zone = raw[after + 4 : after + 6] if raw[after : after + 4] == _ZONE_HEAD else _NO_ZONE
        ends = zone + address + target + target_port
        self._groups[ends, raw[at + place], translated, stretch] += 1
        return True

    def _entry(self, raw: bytes, at: int, end: int) -> None:
        origin = reply = None
        state, zone = 0, _NO_ZONE
        for kind, begin, stop in attributes(raw, at, end):
            if kind == _TUPLE_ORIG:
                origin = tcp_ends(raw, begin, stop)
                if origin is None:
                    self.others += 1
                    return
            elif kind == _TUPLE_REPLY:
                reply = tcp_ends(raw, begin, stop)
            elif kind == _ZONE and stop - begin == 2:
                zone = raw[begin:stop]
            elif kind == _PROTOINFO and stop - begin >= 9:
                # CTA_PROTOINFO_TCP is the one nest, CTA_PROTOINFO_TCP_STATE its first attribute.
                state = raw[begin + 8]
                if begin - 4 - at >= _PLAIN.size:
                    self._places[end - at] = (begin + 8 - at, raw[begin - 4 : begin + 8])
                break
        if origin is None or reply is None:
            raise SourceError("a conntrack entry has no tuple")
        # The reply goes to the translated source; without SNAT that is the source itself.
        translated = (reply.destination, reply.destination_port) != (
            origin.source,
            origin.source_port,
        )
        stretch = self._stretch_of[int.from_bytes(reply.destination_port, "big")]
        ends = zone + reply.destination + reply.source + reply.source_port
        self._groups[ends, state, translated, stretch] += 1

    def snats(self, least: float = 0.0) -> dict[Snat, dict[str, int]]:
        """Return the TCP entries on the ports of each SNAT, by state.

        Those that use less than a share of `least` of any range are left out, but for the largest:
        a gateway has very many of one entry each.
        """
        by_ends: defaultdict[bytes, list[tuple[_Group, int]]] = defaultdict(list)
        chosen = self._larger_than(least * self._fewest_ports())
        for key, count in self._groups.items():
            if key[0] in chosen:
                by_ends[key[0]].append((_Group(*key), count))
        found: dict[Snat, dict[str, int]] = {}
        for ends, groups in by_ends.items():
            for (low, high), by_rule in self._ranges(groups):
                states: Counter[str] = Counter()
                for group, count in groups:
                    if self._lies_in(group.stretch, (low, high)):
                        states[_name(group.state)] += count
                zone, address, destination, port = _apart(ends)
                snat = Snat(text_of(address), text_of(destination), port, low, high, by_rule, zone)
                found[snat] = dict(states)
        return found

    def _fewest_ports(self) -> int:
        sizes = [high - low + 1 for low, high in SOURCE_CLASSES]
        return min(
            sizes + [rule.ports[1] - rule.ports[0] + 1 for rule in self._rules if rule.ports]
        )

    def _larger_than(self, least: float) -> set[bytes]:
        """Return the ends with translated entries that have so many entries, and the largest."""
        translated = {ends for ends, _, translated, _ in self._groups if translated}
        totals: dict[bytes, int] = {}
        for (ends, *_), count in self._groups.items():
            if ends in translated:
                totals[ends] = totals.get(ends, 0) + count
        largest = max(totals, key=totals.__getitem__, default=None)
        return {ends for ends, total in totals.items() if total >= least or ends == largest}

    def _ranges(self, groups: list[tuple[_Group, int]]) -> Iterator[tuple[Ports, bool]]:
        """Yield where the translated entries of one SNAT have their ports from."""
        translated = {group.stretch for group, _ in groups if group.translated}
        _, address, _, port = _apart(groups[0][0].ends)
        fitting = [
            rule.ports
            for rule in self._rules
            if rule.ports
            and rule.gives(address)
            and rule.takes(port)
            and all(self._lies_in(stretch, rule.ports) for stretch in translated)
        ]
        if translated and fitting:
            yield min(fitting, key=lambda ports: ports[1] - ports[0]), True
            return
        for ports in SOURCE_CLASSES:
            if any(self._lies_in(stretch, ports) for stretch in translated):
                yield ports, False

    def _lies_in(self, stretch: int, ports: Ports) -> bool:
        first = self._cuts[stretch - 1] if stretch else 0
        return ports[0] <= first <= ports[1]

    @property
    def states(self) -> dict[str, int]:
        """All TCP entries by state."""
        found: Counter[str] = Counter()
        for (_, state, *_), count in self._groups.items():
            found[_name(state)] += count
        return dict(found)


def _cuts(ranges: Iterable[Ports]) -> list[int]:
    """Return where ranges begin and end, in order: no range divides what lies between two."""
    return sorted({cut for low, high in ranges for cut in (low, high + 1)})


def _stretches(cuts: list[int]) -> bytes:
    """Return, for each port, how many cuts are at or below it."""
    bounds = zip((0, *cuts), (*cuts, 1 << 16), strict=True)
    return b"".join(bytes([n]) * max(0, high - low) for n, (low, high) in enumerate(bounds))


def add_counters(datagram: bytes, sums: list[int]) -> bool:
    """Add insert_failed, drop and early_drop of each CPU to three sums; True ends the dump."""
    for kind, at, end in messages(datagram):
        if kind in (ERROR, DONE):
            return True
        if kind == GET_COUNTERS:
            numbers = {which: datagram[b:e] for which, b, e in attributes(datagram, at, end)}
            for i, which in enumerate(_COUNTERS):
                sums[i] += int.from_bytes(numbers.get(which, b""), "big")
    return False


def count_to_port(datagram: bytes, port: int, found: Counter[tuple[str, int]]) -> bool:
    """Count the connections to a port that DNAT leads elsewhere, by where; True ends the dump."""
    wanted = port.to_bytes(2, "big")
    for kind, at, end in messages(datagram):
        if kind in (ERROR, DONE):
            return True
        if kind == NEW:
            tuples: Mapping[int, TrackedEnds | None] = {
                which: tcp_ends(datagram, begin, stop)
                for which, begin, stop in attributes(datagram, at, end)
                if which in (_TUPLE_ORIG, _TUPLE_REPLY)
            }
            origin, reply = tuples.get(_TUPLE_ORIG), tuples.get(_TUPLE_REPLY)
            if origin is None or reply is None or origin.destination_port != wanted:
                continue
            if (origin.destination, wanted) != (reply.source, reply.source_port):
                found[text_of(reply.source), int.from_bytes(reply.source_port, "big")] += 1
    return False


def tcp_ends(raw: bytes, at: int, end: int) -> TrackedEnds | None:
    """Return the ends of a TCP tuple, None for one of another protocol."""
    source = destination = source_port = destination_port = b""
    for kind, inner, stop in attributes(raw, at, end):
        if kind == _IP:
            # Two addresses of the same size, source first (nf_ct_ipv4_tuple_to_nlattr and v6).
            half = (stop - inner) // 2
            source, destination = raw[inner + 4 : inner + half], raw[inner + half + 4 : stop]
            if len(source) not in (4, 16) or len(source) != len(destination):
                raise SourceError("a conntrack tuple has no two addresses")
        elif kind == _PROTO:
            if stop - inner < 5 or raw[inner + 4] != _TCP:
                return None
            if stop - inner < 22:
                raise SourceError("a conntrack tuple has no two ports")
            source_port = raw[inner + 12 : inner + 14]
            destination_port = raw[inner + 20 : inner + 22]
    if not source or not destination_port:
        raise SourceError("a conntrack tuple is not complete")
    return TrackedEnds(source, destination, destination_port, source_port)


def _apart(ends: bytes) -> tuple[int, bytes, bytes, int]:
    """Return zone, source address, destination and port of ends in one piece."""
    middle = len(ends) // 2
    zone, port = int.from_bytes(ends[:2], "big"), int.from_bytes(ends[-2:], "big")
    return zone, ends[2:middle], ends[middle:-2], port


def _name(state: int) -> str:
    return STATES[state] if state < len(STATES) else str(state)
