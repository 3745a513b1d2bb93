"""What matches and targets of iptables say about ports, and whatever bytes come."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceError
from twdiag.sources.live.netfilter.x_tables import match_ports, target_range

from .test_nat_rules import OLD, address, port


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (OLD, (address("192.0.2.1"), (5, 9))),
        (OLD[:4] + struct.pack("=I", 1) + OLD[8:], (address("192.0.2.1"), None)),
        (OLD[:4] + struct.pack("=I", 2) + OLD[8:], (None, (5, 9))),
        (
            struct.pack("=I16s16s", 3, *address("192.0.2.1")) + port(9) + port(5),
            (address("192.0.2.1"), (5, 9)),
        ),
        (
            struct.pack("=I16s16s", 3, *address("fd00::1")) + port(5) + port(9) + port(7),
            (address("fd00::1"), (5, 9)),
        ),
    ],
)
def test_the_range_of_an_iptables_target(info: bytes, expected: object) -> None:
    assert target_range("SNAT", 0, info) == expected
    with pytest.raises(SourceError):
        target_range("SNAT", 0, info[:19])


def test_the_ports_of_an_iptables_match() -> None:
    tcp = struct.pack("=HHHHBBBB", 0, 0xFFFF, 80, 90, 0, 0, 0, 0)
    assert match_ports("tcp", tcp) == (((80, 90),), True)
    assert match_ports("udp", tcp[:4] + tcp[:4] + bytes(4)) == (None, True)
    assert match_ports("comment", b"80") == (None, True)
    assert match_ports("tcp", tcp[:11] + b"\2") == (None, False)  # ! --dport
    assert match_ports("udp", tcp[:8] + b"\2") == (None, False)
    assert match_ports("tcp", tcp[:8]) == (None, False)


def multiport(flags: int, *ports: int, ranges: tuple[int, ...] = (), inverted: int = 0) -> bytes:
    """Return struct xt_multiport_v1; `ranges` are the places of ports that begin a range."""
    begins = [int(place in ranges) for place in range(15)]
    padded = [*ports, *([0] * (15 - len(ports)))]
    return struct.pack("=BB15H15BB", flags, len(ports), *padded, *begins, inverted)


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)), min_size=1, max_size=7))
def test_each_range_of_a_multiport_match_is_read(ranges: list[tuple[int, int]]) -> None:
    ports = [port for range_ in ranges for port in range_]
    info = multiport(1, *ports, ranges=tuple(range(0, len(ports), 2)))
    assert match_ports("multiport", info, 1) == (tuple(ranges), True)
    single = multiport(1, *ports)
    assert match_ports("multiport", single, 1) == (tuple((port, port) for port in ports), True)


def test_what_a_multiport_match_does_not_say_of_the_destination() -> None:
    assert match_ports("multiport", multiport(0, 80), 1) == (None, True)  # --sports
    assert match_ports("multiport", multiport(2, 80), 1) == (None, False)  # --ports
    assert match_ports("multiport", multiport(1, 80, inverted=1), 1) == (None, False)
    assert match_ports("multiport", multiport(1), 1) == (None, False)
    assert match_ports("multiport", multiport(1, 80)[:40], 1) == (None, False)
    assert match_ports("multiport", multiport(1, 80), 0) == (None, False)


@given(st.binary(max_size=60), st.integers(0, 2))
def test_no_bytes_break_a_match(info: bytes, revision: int) -> None:
    for name in ("multiport", "tcp", "udp"):
        to, _ = match_ports(name, info, revision)
        assert all(0 <= low <= 0xFFFF for low, _ in to or ())


@given(st.binary(max_size=60))
def test_no_bytes_break_a_target(info: bytes) -> None:
    try:
        target_range("SNAT", 0, info)
    except SourceError:
        assert len(info) < 20
