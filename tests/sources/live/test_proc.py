"""What /proc prints comes back as it was; what it never prints is named with file and line."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.model.? import SocketTable
from twdiag.model.sockets import Socket
from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live import proc
from twdiag.tcp import State

from .wire import MANY, lengths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"
    "   uid  timeout inode"
)
USER_HZ = os.sysconf("SC_CLK_TCK")


def printed(raw: bytes) -> str:
    """An address as %08X of its native words."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(raw) // 4}I", raw))


def line(row: Socket, number: int = 0, *, jiffies: int = 0, probes: int = 0) -> str:
    """A row as get_tcp4_sock() in net/ipv4/tcp_ipv4.c prints it; `jiffies` is the timer."""
    ends = " ".join(
        f"{printed(socket.inet_pton(_family(address), address))}:{port:04X}"
        for address, port in (
            (row.local_address, row.local_port),
            (row.remote_address, row.remote_port),
        )
    )
    return (
        f"{number:4d}: {ends} {row.state:02X} {row.send_q:08X}:{row.recv_q:08X}"
        f" {row.timer:02X}:{jiffies:08X} {row.retrans:08X} {row.uid:5d} {probes:8d} {row.inode:d}"
        " 1 ffff88003d3af3c0 20 4 30 10 -1"
    )


def complaint_of(parser: Callable[..., object], *arguments: object) -> str | None:
    """Return the error that a parser raises, None where it finds nothing wrong."""
    try:
        parser(*arguments)
    except SourceError as error:
        return error.what
    return None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def parsed(*lines: str) -> SocketTable:
    table = SocketTable()
    proc.parse_tcp("\n".join((HEAD, *lines)) + "\n", table)
    return table


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ROWS = st.builds(
    Socket,
    st.sampled_from([state for state in State if state is not State.LISTEN]),
    ADDRESSES,
    st.integers(0, 0xFFFF),
    ADDRESSES,
    st.integers(0, 0xFFFF),
    st.sampled_from([1, 3]),
    st.integers(0, 1 << 20).map(lambda ticks: ticks * (1000 // USER_HZ)),
    st.integers(0, 255),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.just(0),
)


def comparable(row: Socket) -> tuple[object, ...]:
    def end(text: str) -> object:
        address = ipaddress.ip_address(text)
        return getattr(address, "ipv4_mapped", None) or address

    return (row.state, end(row.local_address), end(row.remote_address), *row[2:3], *row[4:])


@MANY
@given(st.lists(ROWS, max_size=8))
def test_rows_come_back_as_they_were_printed(rows: list[Socket]) -> None:
    lines = (
        line(row, number, jiffies=row.expires * USER_HZ // 1000) for number, row in enumerate(rows)
    )
    assert list(map(comparable, parsed(*lines))) == list(map(comparable, rows))


@MANY
@given(
    st.lists(ROWS, min_size=1, max_size=3),
    st.integers(0, 1 << 12),
    st.characters(codec="utf-8") | st.sampled_from("-+_xX:. 0F"),
)
def test_one_corrupted_character_is_named_or_harmless(
    rows: list[Socket], place: int, character: str
) -> None:
    text = "\n".join((HEAD, *map(line, rows))) + "\n"
    place %= len(text)
    table = SocketTable()
    corrupted = text[:place] + character + text[place + 1 :]
    what = complaint_of(proc.parse_tcp, corrupted, table, "/some/file")
    assert what is None or what.startswith("/some/file, line ")
    assert len(lengths(table)) == 1
    list(table)


@MANY
@given(st.text(max_size=120))
def test_text_that_is_no_socket_table_is_an_error(text: str) -> None:
    with pytest.raises(SourceError, match="/proc/net/tcp, line 1"):
        proc.parse_tcp(text.replace("local_address", ""), SocketTable())


GOOD = line(Socket(State.ESTABLISHED, "10.0.0.1", 40000, "10.0.0.2", 443))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0100000A", "0100000G"),
        ("0100000A", "100000A"),
        ("0100000A", "0x00000A"),
        ("0100000A", "-100000A"),
        ("0100000A", "0_00000A"),
        (":9C40", ":19C40"),
        (":9C40", ":-C40"),
        (":9C40", ""),
        (" 01 ", " 0D "),
        (" 01 ", " 00 "),
        (" 01 ", " FF "),
        ("00000000:00000000", "00000000"),
        ("00000000:00000000", "-0000001:00000000"),
        ("00:00000000", "00:00000000:1"),
        (" 1 ffff", "x1 ffff"),
        ("   0:", ""),
        (" 0 1 ffff88003d3af3c0 20 4 30 10 -1", ""),
    ],
)
def test_a_malformed_row_is_quoted_with_file_and_line(old: str, new: str) -> None:
    assert old in GOOD
    bad = GOOD.replace(old, new, 1)
    table = SocketTable()
    with pytest.raises(SourceError) as error:
        proc.parse_tcp("\n".join((HEAD, GOOD, bad)), table, "/proc/7/net/tcp6")
    assert "/proc/7/net/tcp6, line 3" in error.value.what
    assert repr(bad[:120]) in error.value.what
    assert lengths(table) == {1}


def test_rows_of_the_other_forms_that_kernels_print() -> None:
    request = (
        "   1: 0100007F:1F90 0200007F:D431 03 00000000:00000000 01:0000005F 00000001  1000"
        "        0 0 0 ffff9a2e8f0c1b80"
    )
    waiting = (
        "  14: 01004D0A:1B58 02004D0A:DB44 06 00000000:00000000 03:0000125A 00000000     0"
        "        0 0 3 0000000012dbb4fd                                      "
    )
    first, second = parsed(request, "", waiting)
    assert first == Socket(
        State.SYN_RECV, "127.0.0.1", 8080, "127.0.0.2", 54321, 1, 950, 1, 0, 0, 1000
    )
    assert second == Socket(State.TIME_WAIT, "10.77.0.1", 7000, "10.77.0.2", 56132, 3, 46980)


def test_a_new_request_is_in_syn_recv() -> None:
    assert parsed(GOOD.replace(" 01 ", " 0C ")).row(0).state is State.SYN_RECV


def test_a_listener_has_an_accept_queue_and_no_backlog() -> None:
    listener = Socket(State.LISTEN, "::", 80, "::", 0, recv_q=7, send_q=9)
    assert list(parsed(line(listener))) == [listener._replace(send_q=0)]


def test_probes_count_as_retransmissions_of_keepalive_and_zero_window() -> None:
    row = Socket(State.FIN_WAIT1, "10.0.0.1", 1, "10.0.0.2", 2, retrans=3)
    lines = (line(row._replace(timer=timer), probes=5) for timer in range(5))
    assert [row.retrans for row in parsed(*lines)] == [3, 3, 5, 3, 5]


def test_a_timer_that_is_off_has_no_time() -> None:
    row = Socket(State.ESTABLISHED, "10.0.0.1", 1, "10.0.0.2", 2)
    assert parsed(line(row, jiffies=500)).row(0).expires == 0


def test_numbers_too_large_for_a_column_are_capped() -> None:
    row = Socket(State.FIN_WAIT1, "10.0.0.1", 1, "10.0.0.2", 2, timer=1, retrans=70_000)
    found = parsed(line(row, jiffies=0xFFFFFFFFFFFFFFFF)).row(0)
    assert (found.retrans, found.expires) == (255, 0xFFFFFFFF)


def test_read_proc_needs_tcp_and_can_do_without_tcp6(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match=r"net/tcp cannot be read") as refusal:
        proc.read_proc(str(tmp_path / "net"))
    assert refusal.value.next_step
    (tmp_path / "tcp").write_text(f"{HEAD}\n{GOOD}\n")
    seen = proc.read_proc(str(tmp_path))
    assert len(seen.table) == 1
    assert seen.auto_bound is None
    assert {gap.what: gap.partial for gap in seen.gaps} == {
        "tcp-info": False,
        "bind-mode": False,
        "bound": True,
        "backlog": False,
    }
    assert all(gap.why and gap.how for gap in seen.gaps)


def test_an_empty_file_is_no_empty_table(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text("")
    with pytest.raises(SourceError, match="line 1"):
        proc.read_proc(str(tmp_path))


def test_bytes_that_are_no_text_are_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\xffb")
    assert proc.read_text(str(tmp_path / "file")) == "a\ufffdb"
    assert proc.read_text(str(tmp_path)) is None
    assert proc.read_text(str(tmp_path / "absent")) is None


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
