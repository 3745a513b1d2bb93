"""Entries of connection tracking, from whatever bytes come."""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.conntrack import Snat
from twdiag.model.nat import NatRule
from twdiag.sources.live.netfilter.ctnetlink import Entries, count_to_port

HEADER = struct.Struct("=IHHII")


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def ends(source: str, sport: int, target: str, dport: int, protocol: int = 6) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    first = 3 if ":" in source else 1
    addresses = attribute(first, socket.inet_pton(family, source)) + attribute(
        first + 1, socket.inet_pton(family, target)
    )
    ports = attribute(2, struct.pack("!H", sport)) + attribute(3, struct.pack("!H", dport))
    return attribute(0x8001, addresses) + attribute(0x8002, attribute(1, bytes([protocol])) + ports)


def entry(origin: bytes, reply: bytes, state: int, zone: int = 0) -> bytes:
    info = attribute(0x8001, attribute(1, bytes([state])))
    body = bytes(4) + attribute(0x8001, origin) + attribute(0x8002, reply)
    if zone:
        body += attribute(18, struct.pack("!H", zone))
    body += attribute(0x8004, info)
    return HEADER.pack(HEADER.size + len(body), 0x100, 2, 1, 0) + body


DONE = HEADER.pack(20, 3, 2, 1, 0) + bytes(4)
PORTS = st.integers(1024, 65535)


@given(
    st.lists(st.tuples(PORTS, PORTS, st.sampled_from([3, 7])), max_size=20),
    st.sampled_from([("10.0.0.5", "192.0.2.1", "10.9.9.9"), ("fd00::5", "2001:db8::1", "fd00::9")]),
)
def test_entries_are_counted_by_snat_and_state(
    found: list[tuple[int, int, int]], addresses: tuple[str, str, str]
) -> None:
    client, public, target = addresses
    entries = Entries()
    for own, translated, state in found:
        origin, reply = ends(client, own, target, 443), ends(target, 443, public, translated)
        entries.feed(entry(origin, reply, state))
    entries.feed(DONE)
    assert entries.done
    names = [{3: "ESTABLISHED", 7: "TIME_WAIT"}[state] for *_, state in found]
    counts = {name: names.count(name) for name in names}
    assert entries.snats() == ({Snat(public, target, 443): counts} if counts else {})
    assert entries.states == counts


def test_without_translation_there_is_no_snat() -> None:
    entries = Entries()
    entries.feed(through(4000, 4000, address="10.0.0.5"))
    entries.feed(entry(ends("10.0.0.5", 1, "10.9.9.9", 53, 17), b"", 0))
    assert entries.snats() == {}
    assert (entries.states, entries.others) == ({"ESTABLISHED": 1}, 1)


def test_a_connection_of_the_gateway_holds_a_port_of_its_snat_too() -> None:
    entries = Entries()
    for own, new in ((4000, 4000), (4000, 4001)):
        entries.feed(through(own, new, address="10.0.0.5"))
    assert entries.snats() == {Snat("10.0.0.5", "10.9.9.9", 443): {"ESTABLISHED": 2}}


def through(own: int, given: int, address: str = "192.0.2.1", port: int = 443) -> bytes:
    """Return the entry of a connection from 10.0.0.5 that leaves from an address and a port."""
    origin = ends("10.0.0.5", own, "10.9.9.9", port)
    return entry(origin, ends("10.9.9.9", port, address, given), 3)


PUBLIC = socket.inet_aton("192.0.2.1")
TEN = NatRule(True, (PUBLIC, PUBLIC), (40000, 40009))


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        (TEN, True),
        (TEN._replace(addresses=None), True),
        (TEN._replace(to=((443, 443),)), True),
        (TEN._replace(to=((80, 90),)), False),
        (TEN._replace(source=False), False),
        (TEN._replace(ports=None), False),
        (TEN._replace(ports=(40001, 40009)), False),
        (TEN._replace(addresses=(socket.inet_aton("10.0.0.9"),) * 2), False),
        (TEN._replace(addresses=(bytes(16), b"\xff" * 16)), False),
    ],
)
def test_the_ports_of_a_snat_are_those_of_its_rule(rule: NatRule, applies: bool) -> None:
    entries = Entries([rule])
    for new in (40000, 40009):
        entries.feed(through(5000, new))
    ports = (40000, 40009, True) if applies else (1024, 65535, False)
    assert entries.snats() == {Snat("192.0.2.1", "10.9.9.9", 443, *ports): {"ESTABLISHED": 2}}


def test_of_two_rules_the_narrower_one_that_holds_all_ports_is_meant() -> None:
    entries = Entries([TEN._replace(ports=(30000, 50000)), TEN, TEN._replace(ports=(1, 9))])
    entries.feed(through(5000, 40003))
    assert list(entries.snats()) == [Snat("192.0.2.1", "10.9.9.9", 443, 40000, 40009, True)]
    entries.feed(through(5001, 40010))
    assert list(entries.snats()) == [Snat("192.0.2.1", "10.9.9.9", 443, 30000, 50000, True)]


def test_without_a_rule_low_ports_have_classes_of_their_own() -> None:
    entries = Entries()
    for new in (500, 600, 1023, 1024, 65535):
        entries.feed(through(new - 1, new))
    assert {(snat.low, snat.high): states for snat, states in entries.snats().items()} == {
        (1, 511): {"ESTABLISHED": 1},
        (600, 1023): {"ESTABLISHED": 2},
        (1024, 65535): {"ESTABLISHED": 2},
    }


@given(
    st.lists(st.tuples(PORTS, PORTS).map(sorted), max_size=200),
    st.lists(PORTS, min_size=1, max_size=30),
)
def test_every_port_is_counted_in_the_range_that_holds_it(
    ranges: list[list[int]], ports: list[int]
) -> None:
    entries = Entries([TEN._replace(ports=(low, high)) for low, high in ranges])
    for new in ports:
        entries.feed(through(new ^ 1, new))
    ((snat, states),) = entries.snats().items()
    assert states == {"ESTABLISHED": len(ports)}
    holding = [high - low for low, high in ranges[:120] if low <= min(ports) <= max(ports) <= high]
    assert snat.ports - 1 == (min(holding) if holding else 65535 - 1024)
    assert snat.by_rule == bool(holding)


def test_small_snats_are_left_out_but_for_the_largest() -> None:
    entries = Entries([TEN])
    for new in range(40000, 40004):
        entries.feed(through(5000, new) + through(5000, 9000 + new, port=80))
    entries.feed(through(5000, 2000, port=81))
    ports = {least: [snat.port for snat in entries.snats(least)] for least in (0.0, 0.2, 0.4, 0.5)}
    assert ports == {0.0: [443, 80, 81], 0.2: [443, 80], 0.4: [443, 80], 0.5: [443]}


def test_an_entry_of_another_zone_holds_no_port_of_this_one() -> None:
    entries = Entries()
    origin, reply = ends("10.0.0.5", 7, "10.9.9.9", 443), ends("10.9.9.9", 443, "192.0.2.1", 4000)
    passing = ends("192.0.2.1", 4000, "10.9.9.9", 443)
    for zone in (5, 5, 6, 0):  # the first of a shape is read with care, the others fast
        entries.feed(entry(origin, reply, 3, zone) + entry(passing, reply, 3, zone + 10))
    snat = Snat("192.0.2.1", "10.9.9.9", 443)
    assert entries.snats() == {
        snat._replace(zone=5): {"ESTABLISHED": 2},
        snat._replace(zone=6): {"ESTABLISHED": 1},
        snat: {"ESTABLISHED": 1},
    }


def test_connections_to_a_port_are_counted_by_where_dnat_leads_them() -> None:
    found: Counter[tuple[str, int]] = Counter()
    led = entry(ends("10.0.0.5", 7, "192.0.2.1", 80), ends("172.17.0.2", 8080, "10.0.0.5", 7), 3)
    own = entry(ends("10.0.0.5", 7, "192.0.2.1", 80), ends("192.0.2.1", 80, "10.0.0.5", 7), 3)
    udp = entry(ends("10.0.0.5", 7, "192.0.2.1", 80, 17), ends("1.1.1.1", 1, "10.0.0.5", 7, 17), 3)
    assert not count_to_port(led + led + own + udp + through(1, 2), 80, found)
    assert count_to_port(led + DONE, 80, found)
    assert found == {("172.17.0.2", 8080): 3}


def test_what_dnat_did_is_told_by_the_real_destination() -> None:
    entries = Entries()
    origin = ends("10.0.0.5", 4000, "192.0.2.80", 80)
    entries.feed(entry(origin, ends("10.9.9.9", 8080, "10.1.1.1", 5000), 3))
    assert entries.snats() == {Snat("10.1.1.1", "10.9.9.9", 8080): {"ESTABLISHED": 1}}


def test_a_refusal_is_an_error() -> None:
    body = struct.pack("=i", -errno.EPERM)
    with pytest.raises(SourceRefused, match="not permitted"):
        Entries().feed(HEADER.pack(20, 2, 0, 1, 0) + body)


VALID = entry(ends("10.0.0.5", 1, "10.9.9.9", 2), ends("10.9.9.9", 2, "10.1.1.1", 3), 3)


@given(st.binary(max_size=300), st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_whatever_comes_is_counted_or_an_error(raw: bytes, at: int, byte: int) -> None:
    flipped = bytearray(VALID)
    flipped[at] = byte
    for datagram in (raw, bytes(flipped), VALID[:at], VALID + raw):
        entries = Entries()
        try:
            count_to_port(datagram, 2, Counter())
            entries.feed(datagram)
        except SourceError:
            continue
        assert sum(entries.states.values()) + entries.others <= 2 + len(raw)
        assert isinstance(entries.snats(), dict)


class Careful(Entries):
    """Decodes every entry attribute by attribute."""

    def _plain(self, raw: bytes, at: int, length: int) -> bool:
        return False


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_the_fast_way_counts_as_the_careful_one(at: int, byte: int) -> None:
    flipped = bytearray(VALID)
    flipped[at] = byte
    results: list[tuple[object, ...] | None] = []
    for entries in (Entries(), Careful()):
        try:
            entries.feed(VALID + bytes(flipped))
            results.append((entries.snats(), entries.states, entries.others))
        except SourceError:
            results.append(None)
    assert results[0] == results[1]
