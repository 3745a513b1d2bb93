"""What /proc prints comes back as it was; what it never prints is named with file and line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.sockets.wire import MANY
from twdiag.errors import SourceError
from twdiag.sources.live import proc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def complaint_of(parser: Callable[..., object], *arguments: object) -> str | None:
    """Return the error that a parser raises, None where it finds nothing wrong."""
    try:
        parser(*arguments)
    except SourceError as error:
        return error.what
    return None


def test_bytes_that_are_no_text_are_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\xffb")
    assert proc.read_text(str(tmp_path / "file")) == "a\ufffdb"
    assert proc.read_text(str(tmp_path)) is None
    assert proc.read_text(str(tmp_path / "absent")) is None


# Processes.


@given(st.binary(max_size=30), st.integers(0, 2**22), st.integers(0, 2**62))
def test_a_process_is_told_whatever_its_name_is(name: bytes, parent: int, started: int) -> None:
    line = f") S {parent} 77 76 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 {started} 8192 1".encode()
    assert proc.parse_stat(b"77 (" + name + line) == (parent, 77, 76, started)


def test_the_name_of_a_process_cannot_forge_its_parent() -> None:
    stat = b"7 (x) S 1 1) R 42 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 555 0 0"
    assert proc.parse_stat(stat) == (42, 7, 7, 555)


@given(st.binary(max_size=200))
def test_what_is_no_stat_file_tells_nothing(data: bytes) -> None:
    assert proc.parse_stat(data.replace(b")", b"")) is None


def test_this_process_is_shown_and_one_that_is_not_there_is_not() -> None:
    stat = proc.read_stat(os.getpid())
    assert stat is not None
    assert (stat.parent, stat.group, stat.session) == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert proc.start_of(os.getpid()) == stat.started
    assert proc.read_stat(1 << 22) is None  # one above the largest number that Linux gives


# Counters.


COUNTERS = st.dictionaries(
    st.sampled_from(["TcpExt", "IpExt", "MPTcpExt", "Tcp", "Udp"]),
    st.dictionaries(
        st.text("ABCabc123", min_size=1, max_size=9),
        st.integers(-1, (1 << 64) - 1),
        max_size=5,
    ),
)


@MANY
@given(COUNTERS)
def test_counters_come_back_as_they_were_printed(groups: dict[str, dict[str, int]]) -> None:
    text = "".join(
        f"{group}: {' '.join(values)}\n{group}: {' '.join(map(str, values.values()))}\n"
        for group, values in groups.items()
    )
    assert proc.parse_counters(text) == {
        f"{group}.{name}": value
        for group, values in groups.items()
        for name, value in values.items()
    }


def test_netstat_with_mptcp_counters() -> None:
    text = (
        "TcpExt: SyncookiesSent TW TCPTimeWaitOverflow\nTcpExt: 0 265 7\n"
        "IpExt: InNoRoutes\nIpExt: 0\n"
        "MPTcpExt: MPCapableSYNRX MPCapableSYNTX\nMPTcpExt: 3 4\n"
    )
    counters = proc.parse_counters(text)
    assert counters["TcpExt.TW"] == 265
    assert counters["TcpExt.TCPTimeWaitOverflow"] == 7
    assert counters["MPTcpExt.MPCapableSYNTX"] == 4


def test_a_negative_counter_is_one() -> None:
    assert proc.parse_counters("Tcp: MaxConn CurrEstab\nTcp: -1 5\n") == {
        "Tcp.MaxConn": -1,
        "Tcp.CurrEstab": 5,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("TcpExt: A B\nTcpExt: 1\n", "line 2: 1 values for 2 names of 'TcpExt'"),
        ("TcpExt: A B\nTcpExt: 1 2 3\n", "line 2: 3 values for 2 names of 'TcpExt'"),
        ("TcpExt: A\nTcpExt: 1\n\nIpExt: B\n", "line 4: names without values 'IpExt: B'"),
        ("\n\nTcpExt: A\nIpExt: 1\n", "line 4: 'IpExt:' follows 'TcpExt:'"),
        ("TcpExt A\nTcpExt 1\n", "line 2: 'TcpExt' follows 'TcpExt'"),
        ("TcpExt: A\nTcpExt: --5\n", "line 2: A is '--5'"),
        ("TcpExt: A\nTcpExt: ²\n", "line 2: A is '²'"),
        ("TcpExt: A\nTcpExt: 1e3\n", "line 2: A is '1e3'"),
    ],
)
def test_counters_that_make_no_sense_are_named(text: str, complaint: str) -> None:
    with pytest.raises(SourceError) as error:
        proc.parse_counters(text, "/proc/net/netstat")
    assert error.value.what == f"/proc/net/netstat, {complaint}"


@MANY
@given(st.text(alphabet="Tcp:-1² \n\tA", max_size=40) | st.text(max_size=40))
def test_no_text_breaks_the_parsers_of_counters(text: str) -> None:
    proc.parse_sockstat(text)
    what = complaint_of(proc.parse_counters, text)
    assert what is None or what.startswith("/proc/net/netstat, line ")


def test_sockstat() -> None:
    text = (
        "sockets: used 3037\nTCP: inuse 1365 orphan 17 tw 2030 alloc 2788 mem 4109\nUDP: inuse 0\n"
    )
    assert proc.parse_sockstat(text) == {
        "sockets.used": 3037,
        "TCP.inuse": 1365,
        "TCP.orphan": 17,
        "TCP.tw": 2030,
        "TCP.alloc": 2788,
        "TCP.mem": 4109,
        "UDP.inuse": 0,
    }


def test_sockstat_leaves_out_what_is_no_number() -> None:
    assert proc.parse_sockstat("TCP: tw x inuse --3 orphan ² mem -4 alloc\n\x00\n:") == {
        "TCP.mem": -4
    }


NETSTAT = "TcpExt: TW\nTcpExt: 5\n"
SNMP = "Tcp: ActiveOpens\nTcp: 6\n"
SOCKSTAT = "TCP: inuse 1 tw 2\n"


def write(folder: Path, **files: str | None) -> str:
    for name, text in {"netstat": NETSTAT, "snmp": SNMP, "sockstat": SOCKSTAT, **files}.items():
        if text is not None:
            (folder / name).write_text(text)
    return str(folder)


def test_counters_of_a_healthy_host_have_no_gap(tmp_path: Path) -> None:
    counters, sockstat, gaps = proc.read_counters(write(tmp_path))
    assert counters == {"TcpExt.TW": 5, "Tcp.ActiveOpens": 6}
    assert sockstat == {"TCP.inuse": 1, "TCP.tw": 2}
    assert gaps == []


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("netstat", None, "cannot be read"),
        ("netstat", "TcpExt: TW\n", "line 1"),
        ("netstat", "TcpExt: A TW\nTcpExt: 5\n", "1 values for 2 names"),
        ("snmp", None, "cannot be read"),
        ("snmp", "Tcp: A\nUdp: 1\n", "line 2"),
        ("sockstat", None, "cannot be read"),
        ("sockstat", "garbage", "no TCP line"),
    ],
)
def test_counters_that_were_not_seen_are_a_gap_and_not_zero(
    tmp_path: Path, name: str, text: str | None, why: str
) -> None:
    counters, sockstat, gaps = proc.read_counters(write(tmp_path, **{name: text}))
    assert [gap.what for gap in gaps] == [name]
    assert why in gaps[0].why
    assert gaps[0].how
    assert ("TcpExt.TW" in counters) == (name != "netstat")
    assert ("Tcp.ActiveOpens" in counters) == (name != "snmp")
    assert ("TCP.tw" in sockstat) == (name != "sockstat")


def test_sysctls_that_are_absent_are_gaps_unless_kernels_may_lack_them(tmp_path: Path) -> None:
    folder = tmp_path / "net" / "ipv4"
    folder.mkdir(parents=True)
    (folder / "ip_local_port_range").write_text("32768\t60999\n")
    (folder / "ip_local_reserved_ports").write_text("\n")
    values, gaps = proc.read_sysctls(root=str(tmp_path))
    assert values == {
        "net.ipv4.ip_local_port_range": "32768 60999",
        "net.ipv4.ip_local_reserved_ports": "",
    }
    assert {gap.what for gap in gaps} == {
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_max_tw_buckets",
        "net.ipv4.tcp_rfc1337",
        "net.ipv4.tcp_timestamps",
        "net.ipv4.tcp_tw_reuse",
        "net.core.somaxconn",
    }
    assert all(not gap.partial and gap.how for gap in gaps)
