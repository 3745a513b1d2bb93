"""What /proc/net/tcp prints comes back as it was; a row it never prints is named with its line."""

from __future__ import annotations

import errno
import io
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.test_proc import complaint_of
from twdiag.errors import SourceError, SourceRefused
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets import proc_tcp
from twdiag.tcp import State

from .wire import MANY

if TYPE_CHECKING:
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


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def parsed(*lines: str) -> list[Socket]:
    return list(proc_tcp.parse_tcp(iter([HEAD + "\n", *(line + "\n" for line in lines)])))


def read_all(text: str, path: str = "/proc/net/tcp") -> list[Socket]:
    return list(proc_tcp.parse_tcp(io.StringIO(text), path))


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
    corrupted = text[:place] + character + text[place + 1 :]
    what = complaint_of(read_all, corrupted, "/some/file")
    assert what is None or what.startswith("/some/file, line ")


@MANY
@given(st.text(max_size=120))
def test_text_that_is_no_socket_table_is_an_error(text: str) -> None:
    with pytest.raises(SourceError, match="/proc/net/tcp, line 1"):
        read_all(text.replace("local_address", ""))


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
    rows = proc_tcp.parse_tcp(iter([HEAD, GOOD, bad]), "/proc/7/net/tcp6")
    assert next(rows).local_port == 40000  # a stream: what stands before is read
    with pytest.raises(SourceError) as error:
        next(rows)
    assert "/proc/7/net/tcp6, line 3" in error.value.what
    assert repr(bad.strip()[:120]) in error.value.what


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
    assert parsed(GOOD.replace(" 01 ", " 0C "))[0].state is State.SYN_RECV


def test_a_listener_has_an_accept_queue_and_no_backlog() -> None:
    listener = Socket(State.LISTEN, "::", 80, "::", 0, recv_q=7, send_q=9)
    assert list(parsed(line(listener))) == [listener._replace(send_q=0)]


def test_probes_count_as_retransmissions_of_keepalive_and_zero_window() -> None:
    row = Socket(State.FIN_WAIT1, "10.0.0.1", 1, "10.0.0.2", 2, retrans=3)
    lines = (line(row._replace(timer=timer), probes=5) for timer in range(5))
    assert [row.retrans for row in parsed(*lines)] == [3, 3, 5, 3, 5]


def test_a_timer_that_is_off_has_no_time() -> None:
    row = Socket(State.ESTABLISHED, "10.0.0.1", 1, "10.0.0.2", 2)
    assert parsed(line(row, jiffies=500))[0].expires == 0


def test_numbers_too_large_for_a_column_are_capped() -> None:
    row = Socket(State.FIN_WAIT1, "10.0.0.1", 1, "10.0.0.2", 2, timer=1, retrans=70_000)
    found = parsed(line(row, jiffies=0xFFFFFFFFFFFFFFFF))[0]
    assert (found.retrans, found.expires) == (255, 0xFFFFFFFF)


def test_read_proc_needs_tcp_and_can_do_without_tcp6(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match=r"net/tcp cannot be read") as refusal:
        proc_tcp.read_proc(root=str(tmp_path / "net"))
    assert refusal.value.next_step
    (tmp_path / "tcp").write_text(f"{HEAD}\n{GOOD}\n")
    seen = proc_tcp.read_proc(root=str(tmp_path))
    assert seen.census.states == {State.ESTABLISHED: 1}
    assert {gap.what: gap.partial for gap in seen.gaps} == {
        "tcp-info": False,
        "bind-mode": False,
        "bound": True,
        "backlog": False,
    }
    assert all(gap.why and gap.how for gap in seen.gaps)


GOOD6 = line(Socket(State.CLOSE_WAIT, "2001:db8::1", 80, "2001:db8::2", 5000))


def test_both_families_are_read(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(f"{HEAD}\n{GOOD}\n")
    (tmp_path / "tcp6").write_text(f"{HEAD}\n{GOOD6}\n{GOOD6}\n")
    seen = proc_tcp.read_proc(root=str(tmp_path))
    assert seen.census.states == {State.ESTABLISHED: 1, State.CLOSE_WAIT: 2}
    assert "sockets" not in {gap.what for gap in seen.gaps}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EPERM])
@pytest.mark.parametrize("when", ["opened", "read"])
def test_ipv6_sockets_that_may_not_be_read_are_a_gap(
    number: int, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tcp").write_text(f"{HEAD}\n{GOOD}\n")
    (tmp_path / "tcp6").write_text(f"{HEAD}\n{GOOD6}\n")

    class Unreadable(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(number, os.strerror(number))

    def opened(path: str, *words: str, **options: str) -> object:
        if not path.endswith("tcp6"):
            return open(path, *words, **options)  # type: ignore[call-overload]
        if when == "read":
            return Unreadable()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(proc_tcp, "open", opened, raising=False)
    seen = proc_tcp.read_proc(root=str(tmp_path))
    assert seen.census.states == {State.ESTABLISHED: 1}
    (gap,) = (gap for gap in seen.gaps if gap.what == "sockets")
    assert gap.partial
    assert os.strerror(number) in gap.why
    assert "tcp6" in gap.why
    assert gap.how


def test_a_row_of_tcp6_that_is_cut_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(f"{HEAD}\n{GOOD}\n")
    (tmp_path / "tcp6").write_text(f"{HEAD}\n{GOOD6[:60]}\n")
    with pytest.raises(SourceError, match="tcp6, line 2"):
        proc_tcp.read_proc(root=str(tmp_path))


def test_an_empty_file_is_no_empty_table(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text("")
    with pytest.raises(SourceError, match="line 1"):
        proc_tcp.read_proc(root=str(tmp_path))
