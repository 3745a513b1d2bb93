"""Connection tracking: real SNAT entries by nft, and whatever bytes come."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceError, SourceRefused
from twdiag.lab import kernel
from twdiag.lab.network import MAIN_ADDRESS, PEER_ADDRESS, connect_peer, enter_private
from twdiag.model.conntrack import Conntrack, ConntrackCounters, Snat
from twdiag.model.snapshot import Gap
from twdiag.sources.live.conntrack import parse_counters, read_conntrack, read_counters
from twdiag.sources.live.ctnetlink import Entries

from .confinement import become_nobody, in_child

HEADER = struct.Struct("=IHHII")
RULES = f"""
table ip twdiag {{
  chain out {{
    type nat hook postrouting priority 100;
    tcp dport 7130 snat to {MAIN_ADDRESS}:40000-40009
    tcp dport 7131 accept
  }}
}}
"""


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


def entry(origin: bytes, reply: bytes, state: int) -> bytes:
    info = attribute(0x8001, attribute(1, bytes([state])))
    body = bytes(4) + attribute(0x8001, origin) + attribute(0x8002, reply) + attribute(0x8004, info)
    return HEADER.pack(HEADER.size + len(body), 0x100, 2, 1, 0) + body


DONE = HEADER.pack(20, 3, 2, 1, 0) + bytes(4)
PORTS = st.integers(1, 65535)


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
    assert entries.snats == ({Snat(public, target, 443): counts} if counts else {})
    assert entries.states == counts


def test_an_entry_without_translation_is_no_snat_and_one_of_its_port_alone_is() -> None:
    entries = Entries()
    origin = ends("10.0.0.5", 4000, "10.9.9.9", 443)
    entries.feed(entry(origin, ends("10.9.9.9", 443, "10.0.0.5", 4000), 3))
    entries.feed(entry(origin, ends("10.9.9.9", 443, "10.0.0.5", 4001), 3))
    entries.feed(entry(ends("10.0.0.5", 1, "10.9.9.9", 53, 17), b"", 0))
    assert entries.snats == {Snat("10.0.0.5", "10.9.9.9", 443): {"ESTABLISHED": 1}}
    assert (entries.states, entries.others) == ({"ESTABLISHED": 2}, 1)


def test_what_dnat_did_is_told_by_the_real_destination() -> None:
    entries = Entries()
    origin = ends("10.0.0.5", 4000, "192.0.2.80", 80)
    entries.feed(entry(origin, ends("10.9.9.9", 8080, "10.1.1.1", 5000), 3))
    assert entries.snats == {Snat("10.1.1.1", "10.9.9.9", 8080): {"ESTABLISHED": 1}}


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
            entries.feed(datagram)
        except SourceError:
            continue
        assert sum(entries.states.values()) + entries.others <= 2 + len(raw)
        assert isinstance(entries.snats, dict)


class Careful(Entries):
    """Decodes every entry attribute by attribute."""

    def _plain(self, raw: bytes, at: int, length: int) -> bool:
        return False


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_the_fast_way_counts_as_the_careful_one(at: int, byte: int) -> None:
    flipped = bytearray(VALID)
    flipped[at] = byte
    results = []
    for entries in (Entries(), Careful()):
        try:
            entries.feed(VALID + bytes(flipped))
            results.append((entries.snats, entries.states, entries.others))
        except SourceError:
            results.append(None)
    assert results[0] == results[1]


HEAD = (
    "entries  clashres found new invalid ignore delete chain insert insert_failed drop early_drop"
)


def test_counters_are_hexadecimal_and_summed_over_cpus() -> None:
    line = "0000000a  00000000 1 0 0 0 0 0 0 00000010 00000002 00000001"
    assert parse_counters(f"{HEAD}\n{line}\n{line}\n") == ConntrackCounters(10, 32, 4, 2)
    assert parse_counters("") is None
    assert parse_counters("entries\n") is None
    assert parse_counters(f"{HEAD}\n{line} 1\n") is None


@given(st.text())
def test_no_text_breaks_the_counters(text: str) -> None:
    parse_counters(text)
    parse_counters(f"entries drop\n{text}")


class Refused(Exception):
    """The namespace cannot be made as the test needs it."""


def play() -> tuple[Any, ...] | str:
    """Make 7 translated connections and 2 others; return what is seen as root and as nobody."""
    try:
        enter_private()
        peer = connect_peer()
    except (SourceRefused, OSError) as error:
        return str(error)
    before = read_conntrack()
    done = subprocess.run(
        ["nft", "-f", "-"], input=RULES.encode(), capture_output=True, check=False
    )
    if done.returncode:
        return done.stderr.decode()
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    kernel.setns(peer)
    servers = [socket.create_server((PEER_ADDRESS, port)) for port in (7130, 7131)]
    kernel.setns(home)
    kept = [socket.create_connection((PEER_ADDRESS, 7130)) for _ in range(7)]
    kept += [socket.create_connection((PEER_ADDRESS, 7131)) for _ in range(2)]
    for one in kept[:3]:
        accepted, _ = servers[0].accept()
        one.close()
        assert accepted.recv(1) == b""
        accepted.close()
    after = read_conntrack()
    nobody = in_child(lambda: (become_nobody(), read_counters(), read_conntrack()[1]))
    return before, after, nobody


def test_real_entries_are_counted_by_snat() -> None:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("needs root and nft (Debian: apt install nftables)")
    seen = in_child(play)
    if isinstance(seen, str):
        pytest.skip(f"no namespace with SNAT can be made: {seen}")
    (before, _), (after, gaps), (could, counters, refused) = seen
    assert isinstance(before, Conntrack)
    assert before.snats == {}
    assert gaps == []
    snat = Snat(MAIN_ADDRESS, PEER_ADDRESS, 7130)
    assert after.snats == {snat: {"ESTABLISHED": 4, "TIME_WAIT": 3}}
    assert after.states == {"ESTABLISHED": 6, "TIME_WAIT": 3}
    assert after.counters.entries == 9
    assert after.maximum > 0
    if could:
        assert counters == after.counters
        assert [type(gap) for gap in refused] == [Gap]
        assert "not permitted" in refused[0].why
