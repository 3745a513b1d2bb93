"""Connection tracking: what is read of it, with real NAT, real entries and without rights."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import become_nobody, in_child
from twdiag.errors import SourceRefused
from twdiag.lab import kernel, nat
from twdiag.lab.network import MAIN_ADDRESS, PEER_ADDRESS, connect_peer, enter_private
from twdiag.model.conntrack import Conntrack, ConntrackCounters, Snat
from twdiag.model.snapshot import Gap
from twdiag.sources.live.netfilter import conntrack, nfnetlink
from twdiag.sources.live.netfilter.conntrack import parse_counters, read_conntrack, read_counters
from twdiag.sources.live.netfilter.tracked import ask_counters, read_led_elsewhere

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


@pytest.mark.parametrize(
    ("device", "who"), [("cilium_host", "Cilium"), ("bpfin.cali", "Calico"), ("eth0", None)]
)
def test_translation_by_ebpf_is_a_gap(device: str, who: str | None) -> None:
    gaps = conntrack._translated_elsewhere(f"Inter-|\n face |bytes\n  lo: 1 2\n {device}: 0 0\n")
    assert [gap.why.partition(" ")[0] for gap in gaps] == ([who] if who else [])
    assert all(gap.partial for gap in gaps)


def test_without_the_file_of_counters_netlink_tells_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(path: str) -> str | None:
        return None if path.endswith("/stat/nf_conntrack") else real(path)

    real, by_file = conntrack.read_text, read_counters()
    if by_file is None or os.geteuid() != 0:
        pytest.skip("needs root and connection tracking")
    monkeypatch.setattr(conntrack, "read_text", absent)
    by_netlink = read_counters()
    assert by_netlink is not None
    assert by_netlink.drop is not None
    assert by_netlink.drop >= (by_file.drop or 0)
    could, unprivileged = in_child(lambda: (become_nobody(), read_counters()))
    if could:
        assert unprivileged == ConntrackCounters(by_netlink.entries)


def play() -> tuple[Any, ...] | str:
    """Make 7 translated connections and 2 others; return what is seen as root and as nobody."""
    try:
        enter_private()
        peer = connect_peer()
        before = read_conntrack()
        nat.give_source(7130, MAIN_ADDRESS, 40000, 40009)
    except (SourceRefused, OSError) as error:
        return str(error)
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
    few = in_child(lambda: (become_nobody(), read_counters(), read_conntrack()))
    kept += [socket.create_connection((PEER_ADDRESS, 7131)) for _ in range(100)]
    many = in_child(lambda: (become_nobody(), read_counters(), read_conntrack()))
    with pytest.MonkeyPatch.context() as patch:
        small = read_conntrack(1e-9)
        patch.setattr(nfnetlink, "_IN_ANY_CASE", 0)
        cut = read_conntrack(1e-9)
    assert small[1] == []
    assert small[0] is not None
    assert small[0].complete
    assert tuple(ask_counters(5.0)) == (0, 0, 0)
    for _ in range(7):  # 4 connections are open on ten ports: one of these finds none
        one = socket.socket()
        one.settimeout(0.2)
        try:
            one.connect((PEER_ADDRESS, 7130))
            kept.append(one)
        except TimeoutError:
            one.close()  # or its SYN is repeated while the counters are compared
    counted = read_counters()
    assert counted is not None
    assert (counted.drop or 0) >= 1
    assert ask_counters(5.0) == [counted.insert_failed, counted.drop, counted.early_drop]
    return before, after, few, many, cut, read_led_elsewhere(7130, 5.0)


def test_real_entries_are_counted_by_snat() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    seen = in_child(play)
    if isinstance(seen, str):
        pytest.skip(f"no namespace with SNAT can be made: {seen}")
    (before, _), (after, gaps), few, many, (cut, cut_gaps), led = seen
    assert isinstance(before, Conntrack)
    assert before.snats is None
    assert gaps == []
    snat = Snat(MAIN_ADDRESS, PEER_ADDRESS, 7130, 40000, 40009, True)
    assert after.snats == {snat: {"ESTABLISHED": 4, "TIME_WAIT": 3}}
    assert after.states == {"ESTABLISHED": 6, "TIME_WAIT": 3}
    assert after.counters.entries == 9
    assert after.complete
    assert after.maximum > 0
    assert not led
    for unprivileged, told in ((few, 0), (many, 1)):
        could, counters, (limited, refused) = unprivileged
        if could:
            assert counters == limited.counters
            assert limited.snats is None
            assert [type(gap) for gap in refused] == [Gap] * told
            assert all("not permitted" in gap.why and not gap.partial for gap in refused)
    assert cut.snats == {}
    assert not cut.complete
    assert [gap.what for gap in cut_gaps] == ["conntrack-rest", "nat-rules"]
    assert all(gap.partial for gap in cut_gaps)
