"""NAT rules: as nft, iptables-nft and the old iptables make them, and whatever bytes come."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import become_nobody, in_child
from twdiag.errors import SourceError, SourceRefused
from twdiag.lab.network import enter_private
from twdiag.model.nat import Diversion, Diversions, NatRule
from twdiag.sources.live.netfilter.diversions import diversions, read_diversions
from twdiag.sources.live.netfilter.ip_tables import rules_in
from twdiag.sources.live.netfilter.nat_rules import FOR_DESTINATIONS, FOR_SOURCES, read_nat_rules
from twdiag.sources.live.netfilter.nf_tables import (
    Chain,
    Jump,
    elements_in,
    nat_chain,
    ranges_of,
    what_rule_does,
)

from .test_ctnetlink import attribute


def address(text: str) -> tuple[bytes, bytes]:
    """Return an address twice, as the first and the last of a range."""
    raw = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    return raw, raw


# Bytes as the kernel hands them out.


def number(n: int) -> bytes:
    return struct.pack("!I", n)


def port(n: int) -> bytes:
    return struct.pack("!H", n)


def expression(name: bytes, *fields: tuple[int, bytes]) -> bytes:
    data = b"".join(attribute(kind, raw) for kind, raw in fields)
    return attribute(0x8001, attribute(1, name + b"\0") + attribute(0x8002, data))


def rule(*expressions: bytes) -> bytes:
    return (
        attribute(1, b"nat\0") + attribute(2, b"out\0") + attribute(0x8004, b"".join(expressions))
    )


def what(raw: bytes) -> NatRule | Jump | None:
    return what_rule_does(raw, 0, len(raw))


DESTINATION = expression(b"payload", (1, number(1)), (2, number(2)), (3, number(2)), (4, number(2)))
SOURCE = expression(b"payload", (1, number(1)), (2, number(2)), (3, number(0)), (4, number(2)))


def compare(operator: int, n: int) -> bytes:
    return expression(
        b"cmp", (1, number(1)), (2, number(operator)), (0x8003, attribute(1, port(n)))
    )


def constant(register: int, raw: bytes) -> bytes:
    return expression(b"immediate", (1, number(register)), (0x8002, attribute(1, raw)))


def jump(code: int, chain: bytes) -> bytes:
    verdict = attribute(0x8002, attribute(1, struct.pack("!i", code)) + attribute(2, chain))
    return expression(b"immediate", (1, number(0)), (0x8002, verdict))


SNAT = (
    constant(1, address("192.0.2.1")[0])
    + constant(2, port(40000))
    + constant(3, port(40009))
    + expression(b"nat", *((k, number(n)) for k, n in ((1, 0), (2, 2), (3, 1), (5, 2), (6, 3))))
)
MASQUERADE = expression(b"masq")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (rule(), None),
        (rule(DESTINATION, compare(0, 80)), None),
        (rule(MASQUERADE), NatRule(True)),
        (rule(SNAT), NatRule(True, address("192.0.2.1"), (40000, 40009))),
        (rule(DESTINATION, compare(0, 80), MASQUERADE), NatRule(True, to=((80, 80),))),
        (rule(SOURCE, compare(0, 80), MASQUERADE), NatRule(True)),
        (
            rule(DESTINATION, compare(5, 80), compare(3, 90), MASQUERADE),
            NatRule(True, to=((80, 90),)),
        ),
        (rule(DESTINATION, compare(1, 80), MASQUERADE), NatRule(True, certain=False)),
        (
            rule(DESTINATION, expression(b"lookup", (2, number(1))), MASQUERADE),
            NatRule(True, certain=False),
        ),
        (
            rule(constant(1, port(9000)), expression(b"redir", (1, number(1)))),
            NatRule(False, None, (9000, 9000)),
        ),
        (rule(DESTINATION, compare(0, 80), jump(-3, b"svc\0")), Jump(b"svc", ((80, 80),), True)),
        (rule(jump(-4, b"svc\0")), Jump(b"svc", None, True)),
    ],
)
def test_what_a_rule_of_nf_tables_does(raw: bytes, expected: NatRule | Jump | None) -> None:
    assert what(raw) == expected


def test_a_base_chain_of_type_nat_is_told_from_others() -> None:
    hook = attribute(0x8004, attribute(1, number(4)) + attribute(2, number(100)))
    names = attribute(1, b"ip\0") + attribute(3, b"out\0")
    base = bytes([2, 0, 0, 0]) + names + hook + attribute(7, b"nat\0")
    assert nat_chain(base, 4, len(base)) == Chain(2, b"ip", b"out", 4)
    for other in (
        names,
        names + hook + attribute(7, b"filter\0"),
        attribute(1, b"nat\0") + attribute(3, b"KUBE-SVC\0"),
    ):
        raw = bytes(4) + other
        assert nat_chain(raw, 4, len(raw)) is None


def element(port: int, *fields: tuple[int, bytes]) -> bytes:
    key = attribute(0x8001, attribute(1, struct.pack("!H", port)))
    return attribute(0x8001, key + b"".join(attribute(kind, raw) for kind, raw in fields))


def ports_of(*elements: bytes) -> tuple[tuple[int, int], ...]:
    raw = attribute(1, b"t\0") + attribute(2, b"s\0") + attribute(0x8003, b"".join(elements))
    return ranges_of(elements_in(raw, 0, len(raw)))


@given(st.sets(st.integers(0, 65534)))
def test_the_ports_of_a_set_are_read(ports: set[int]) -> None:
    assert ports_of(*map(element, ports)) == tuple((port, port) for port in sorted(ports))


@given(st.sets(st.integers(0, 32767), min_size=2), st.booleans(), st.randoms())
def test_the_intervals_of_a_set_are_read(cuts: set[int], open_end: bool, random: Any) -> None:
    ordered = sorted(cuts)[: len(cuts) // 2 * 2]
    begins, behind = ordered[::2], ordered[1::2]
    elements = [*map(element, begins), *(element(cut, (3, number(1))) for cut in behind)]
    expected = [(low, high - 1) for low, high in zip(begins, behind, strict=True)]
    if open_end:
        elements.append(element(40000))
        expected.append((40000, 65535))
    random.shuffle(elements)
    assert ports_of(*elements) == tuple(expected)


def test_neighbouring_intervals_are_both_there() -> None:
    ends = (3, number(1))
    assert ports_of(element(5), element(8, ends), element(8), element(9, ends)) == ((5, 7), (8, 8))


def test_a_set_of_something_else_is_not_taken_for_ports() -> None:
    for fields in (
        attribute(0x8001, attribute(1, bytes(4))),
        attribute(0x8001, attribute(1, port(80))) + attribute(0x800A, attribute(1, port(90))),
        b"",
    ):
        raw = attribute(0x8003, attribute(0x8001, fields))
        with pytest.raises(SourceError):
            list(elements_in(raw, 0, len(raw)))


@given(st.binary(max_size=80))
def test_no_bytes_break_a_set(raw: bytes) -> None:
    for data in (raw, attribute(0x8003, raw), attribute(0x8003, attribute(0x8001, raw))):
        try:
            list(elements_in(data, 0, len(data)))
        except SourceError:
            continue


def look_up(name: bytes, *fields: tuple[int, bytes]) -> bytes:
    return expression(b"lookup", (1, name + b"\0"), (2, number(1)), *fields)


@pytest.mark.parametrize(
    ("fields", "place", "expected"),
    [
        ((), DESTINATION, NatRule(True, to=((80, 80), (443, 443)))),
        (((5, number(1)),), DESTINATION, NatRule(True, certain=False)),  # != @web
        (((3, number(2)),), DESTINATION, NatRule(True, certain=False)),  # a map
        ((), SOURCE, NatRule(True)),
    ],
)
def test_a_rule_for_a_set_of_ports(
    fields: tuple[tuple[int, bytes], ...], place: bytes, expected: NatRule
) -> None:
    raw = rule(place, look_up(b"web", *fields), MASQUERADE)
    sets = {b"web": ((80, 80), (443, 443))}
    assert what_rule_does(raw, 0, len(raw), sets.get) == expected
    unknown = what_rule_does(raw, 0, len(raw))
    assert unknown == (expected if place is SOURCE else NatRule(True, certain=False))


def old_rule(target: bytes, info: bytes, *matches: tuple[bytes, bytes]) -> bytes:
    """Return a rule as the old iptables keeps it."""
    found = b"".join(part(name, data) for name, data in matches)
    last = part(target, info)
    offsets = 112 + len(found), 112 + len(found) + len(last)
    return bytes(88) + struct.pack("=HH", *offsets) + bytes(20) + found + last


def part(name: bytes, data: bytes) -> bytes:
    return struct.pack("=H29sB", 32 + len(data), name, 0) + data


OLD = struct.pack("=II4s4sHH", 1, 3, *address("192.0.2.1"), 0, 0)[:16] + port(5) + port(9)
TABLE = (
    old_rule(b"", bytes(8))
    + old_rule(b"SNAT", OLD, (b"tcp", struct.pack("=HHHHBBBB", 0, 0xFFFF, 80, 80, 0, 0, 0, 0)))
    + old_rule(b"ERROR", bytes(32))
)


def test_the_table_of_the_old_iptables_is_walked_rule_by_rule() -> None:
    expected = NatRule(True, address("192.0.2.1"), (5, 9), ((80, 80),))
    assert list(rules_in(TABLE, (0, 0))) == [expected]
    assert list(rules_in(TABLE, (0, len(TABLE)))) == [expected._replace(local=True)]
    assert list(rules_in(b"", (0, 0))) == []


VALID = rule(DESTINATION, compare(0, 80), SNAT)


@given(st.binary(max_size=200), st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_no_bytes_break_the_rules(raw: bytes, at: int, byte: int) -> None:
    flipped = bytearray(VALID)
    flipped[at] = byte
    old = bytearray(TABLE)
    old[at % len(TABLE)] = byte
    for bytes_of_rule in (raw, bytes(flipped), VALID[:at]):
        for reading in (
            lambda b=bytes_of_rule: what(b),
            lambda b=bytes_of_rule: nat_chain(bytes(4) + b + b"nat\0", 4, len(b) + 8),
            lambda b=bytes(old) + raw: list(rules_in(b, (0, 0))),
        ):
            try:
                reading()
            except SourceError:
                continue


# Where a port is led.


def test_rules_and_tracked_connections_are_told_as_one() -> None:
    rules = [
        NatRule(False, address("172.17.0.2"), (80, 80), ((8080, 8080),)),
        NatRule(False, None, (9000, 9000), ((8000, 8090),), local=True),
        NatRule(False, address("172.17.0.3"), None, ((8080, 8080),)),
        NatRule(False, address("172.17.0.9"), (1, 1), ((81, 81),)),
        NatRule(False, address("172.17.0.9"), (1, 1), certain=False),
        NatRule(False, address("172.17.0.9")),
    ]
    tracked = {("172.17.0.2", 80): 7, ("10.9.9.9", 5): 1, ("172.17.0.3", 8080): 2}
    assert diversions(8080, rules, tracked) == Diversions(
        (
            Diversion("172.17.0.2", 80, connections=7),
            Diversion(None, 9000, local=True),
            Diversion("172.17.0.3", None, connections=2),
            Diversion("10.9.9.9", 5, by_rule=False, connections=1),
        ),
        2,
    )
    assert diversions(8080, [], {}) == Diversions()


# As the programs make them.

NFT = """
table ip t {
  set web { type inet_service; elements = { 443, 8443 }
  }
  chain out {
    type nat hook postrouting priority 100;
    tcp dport 7130 snat to 10.9.9.1:40000-40009
    tcp dport 7131 masquerade to :41000-41003
    tcp dport 7132 counter masquerade random
    tcp dport 7133 jump more
  }
  chain more { ip daddr 10.0.0.0/8 snat to 10.9.9.1-10.9.9.2 persistent
  }
  chain before {
    type nat hook prerouting priority -100;
    tcp dport 80 dnat to 10.0.0.2:8080
    tcp dport { 81, 82 } redirect to :9000
    tcp dport 90-95 redirect to :9001
    tcp dport { 1-5, 100, 65000-65535 } redirect to :9003
    tcp dport @web redirect to :9004
    tcp dport != { 80, 443 } redirect to :9005
  }
  chain local { type nat hook output priority -100; tcp dport 80 redirect to :9002
  }
}
table ip6 s {
  chain out { type nat hook postrouting priority 100; tcp dport 7130 snat to [fd00::1]:5-9
  }
}
"""
IPTABLES = """\
-A POSTROUTING -p tcp --dport 7200 -j SNAT --to-source 10.9.9.1:50000-50009
-A POSTROUTING -p tcp --dport 7201 -j MASQUERADE --to-ports 50100-50109
-A PREROUTING -p tcp -m comment --comment x --dport 7202 -j DNAT --to-destination 10.0.0.9:80
-A PREROUTING -p tcp -m multiport --dports 7203,7204 -j REDIRECT --to-ports 88
-A PREROUTING -p tcp -m multiport --dports 7205,7206:7209,7211 -j REDIRECT --to-ports 89
-A PREROUTING -p tcp -m multiport --sports 1:1023 -m tcp --dport 7212 -j REDIRECT --to-ports 90
-A PREROUTING -p tcp -m multiport ! --dports 7203,7204 -j REDIRECT --to-ports 91
-A PREROUTING -p tcp ! --dport 7213 -j REDIRECT --to-ports 92
"""
OF_NFT = (
    NatRule(True, address("10.9.9.1"), (40000, 40009), ((7130, 7130),)),
    NatRule(True, None, (41000, 41003), ((7131, 7131),)),
    NatRule(True, None, None, ((7132, 7132),)),
    NatRule(True, (address("10.9.9.1")[0], address("10.9.9.2")[0]), None, ((7133, 7133),)),
    NatRule(True, address("fd00::1"), (5, 9), ((7130, 7130),)),
)
TO_PLACES = (
    NatRule(False, address("10.0.0.2"), (8080, 8080), ((80, 80),)),
    NatRule(False, None, (9000, 9000), ((81, 81), (82, 82))),
    NatRule(False, None, (9001, 9001), ((90, 95),)),
    NatRule(False, None, (9003, 9003), ((1, 5), (100, 100), (65000, 65535))),
    NatRule(False, None, (9004, 9004), ((443, 443), (8443, 8443))),
    NatRule(False, None, (9005, 9005), certain=False),
    NatRule(False, None, (9002, 9002), ((80, 80),), local=True),
)
OF_IPTABLES = (
    NatRule(True, address("10.9.9.1"), (50000, 50009), ((7200, 7200),)),
    NatRule(True, None, (50100, 50109), ((7201, 7201),)),
)
TO_IPTABLES = (
    NatRule(False, address("10.0.0.9"), (80, 80), ((7202, 7202),)),
    NatRule(False, None, (88, 88), ((7203, 7203), (7204, 7204))),
    NatRule(False, None, (89, 89), ((7205, 7205), (7206, 7209), (7211, 7211))),
    NatRule(False, None, (90, 90), ((7212, 7212),)),
    NatRule(False, None, (91, 91), certain=False),
    NatRule(False, None, (92, 92), certain=False),
)


def run(program: str, *words: str, given: str = "") -> str:
    done = subprocess.run([program, *words], input=given.encode(), capture_output=True, check=False)
    return done.stderr.decode() if done.returncode else ""


def with_rules(program: str) -> Any:
    """Let a program make its rules in a private namespace; return what is read of them."""
    try:
        enter_private()
    except SourceRefused as error:
        return str(error)
    if program == "nft":
        refused = run("nft", "-f", "-", given=NFT)
    else:
        lines = IPTABLES.splitlines()
        refused = "".join(run(program, "-t", "nat", *line.split()) for line in lines)
    if refused:
        return refused
    read = [read_nat_rules(hooks, 5.0) for hooks in (FOR_SOURCES, FOR_DESTINATIONS)]
    return read, read_diversions(80), in_child(refusal)


def refusal() -> str | None:
    if not become_nobody():
        return None
    try:
        read_nat_rules(FOR_SOURCES, 5.0)
    except SourceRefused as error:
        return error.what
    return ""


@pytest.mark.parametrize(
    ("program", "sources", "destinations"),
    [
        ("nft", OF_NFT, TO_PLACES),
        ("iptables-nft", OF_IPTABLES, TO_IPTABLES),
        ("iptables-legacy", OF_IPTABLES, TO_IPTABLES),
    ],
)
def test_real_rules_are_read_whatever_made_them(
    program: str, sources: tuple[NatRule, ...], destinations: tuple[NatRule, ...]
) -> None:
    if os.geteuid() != 0 or shutil.which(program) is None:
        pytest.skip(f"needs root and {program} (Debian: apt install nftables iptables)")
    seen = in_child(lambda: with_rules(program))
    if isinstance(seen, str):
        pytest.skip(f"no namespace with such rules can be made: {seen}")
    (out, to), led, refused = seen
    assert (out.rules, out.complete) == (sources, True)
    assert (to.rules, to.complete) == (destinations, True)
    assert refused is None or "not permitted" in refused
    if program == "nft":
        assert led == Diversions(
            (Diversion("10.0.0.2", 8080), Diversion(None, 9002, local=True)), 1
        )
    else:
        assert led == Diversions((), 2)
