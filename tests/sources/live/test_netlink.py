"""The netlink reader against a kernel that refuses, stalls, loses rows or has no IPv6."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from twdiag.errors import SourceError, SourceRefused
from twdiag.sources import collect
from twdiag.sources.live import netlink, proc
from twdiag.sources.live.netlink import read_netlink
from twdiag.tcp import State

from .fake_kernel import INTERRUPTED, Kernel, Request
from .wire import GETSOCK, INFO, Row, done, error, message

if TYPE_CHECKING:
    from collections.abc import Callable

V6 = socket.AF_INET6
LISTEN, CLOSE_WAIT, FIN_WAIT2 = (1 << state for state in (10, 8, 5))
ALL = (1 << 14) - 2
LISTENER = Row(state=10, sport=80, dport=0, cookie=1)
IDLE = Row(sport=80, cookie=2)
WAITING = Row(state=8, sport=80, cookie=3, inode=5)
TIME_WAIT = Row(state=6, timer=3, sport=80, cookie=4)
MANY = [TIME_WAIT] * 4000  # more than the decoder keeps before it fills the table
NO_BUFFERS = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kernel]:
    """Put a kernel in the place of the real one; the files of /proc are absent unless given."""

    def begin(
        script: Callable[[Request], list[object]], protocols: str = "", *, ipv6: bool = True
    ) -> Kernel:
        kernel = Kernel(script)
        monkeypatch.setattr(netlink, "socket", kernel)
        monkeypatch.setattr(netlink, "read_text", {"/proc/net/protocols": protocols}.get)
        monkeypatch.setattr(os.path, "exists", {"/proc/net/if_inet6": ipv6}.get)
        return kernel

    return begin


def having(*rows: Row) -> Callable[[Request], list[object]]:
    """Return the script of a kernel with these sockets and no MPTCP."""

    def answer(request: Request) -> list[object]:
        if request.protocol != 6:
            return [errno.ENOENT]
        return [
            row
            for row in rows
            if request.states >> row.state & 1 and request.family in (None, row.family)
        ]

    return answer


def cookies(rows: object) -> list[int]:
    return sorted(row.cookie for row in rows)  # type: ignore[attr-defined]


def test_an_idle_host_is_asked_once_for_everything(start: Callable[..., Kernel]) -> None:
    kernel = start(having(LISTENER, IDLE, TIME_WAIT))
    seen = read_netlink()
    assert cookies(seen.table) == [1, 2, 4]
    assert seen.gaps == []
    assert seen.tcp_info == {}
    assert [(r.family, r.states, r.info, r.filtered) for r in kernel.requests] == [
        (None, ALL, False, False),
        (None, LISTEN, False, True),
    ]
    assert kernel.opened == kernel.closed == 1


def test_ages_are_asked_for_where_sockets_wait_half_closed(start: Callable[..., Kernel]) -> None:
    ages = struct.pack("=44x4I", 7, 0, 30_000, 20_000)

    def script(request: Request) -> list[object]:
        if request.info:
            assert request.states == CLOSE_WAIT | FIN_WAIT2
            return [Row(state=8, cookie=3, attributes=((INFO, ages),))]
        return having(IDLE, WAITING)(request)

    start(script)
    info = read_netlink().tcp_info
    assert list(info) == [3]
    assert (info[3].last_data_sent, info[3].last_data_recv, info[3].last_ack_recv) == (
        7,
        30_000,
        20_000,
    )


def test_mini_sockets_have_no_ages_to_ask_for(start: Callable[..., Kernel]) -> None:
    kernel = start(having(Row(state=5, timer=3, cookie=9)))
    assert read_netlink().gaps == []
    assert not any(request.info for request in kernel.requests)


def test_a_kernel_without_the_short_request_is_asked_per_family(
    start: Callable[..., Kernel],
) -> None:
    def script(request: Request) -> list[object]:
        if request.family is None:
            return [*MANY, errno.EINVAL]  # whatever came before a refusal does not count
        return having(IDLE, Row(V6, 1, bytes(15) + b"\1", 80, bytes(16), 9, cookie=7))(request)

    kernel = start(script)
    assert cookies(read_netlink().table) == [2, 7]
    assert [request.family for request in kernel.requests] == [None, 2, 10, 2, 10]


def test_a_kernel_without_ipv6_has_no_gap(start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        if request.family != socket.AF_INET:
            return [errno.ENOENT]
        return having(LISTENER)(request)

    start(script, ipv6=False)
    seen = read_netlink()
    assert cookies(seen.table) == [1]
    assert seen.gaps == []
    assert seen.auto_bound == frozenset({1})


def test_ipv6_that_is_refused_is_no_half_truth(start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        return [LISTENER] if request.family == socket.AF_INET else [errno.ENOENT]

    start(script, ipv6=True)
    with pytest.raises(SourceRefused, match="ENOENT"):
        read_netlink()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP])
def test_a_dump_that_ends_with_an_errno_is_no_empty_table(
    number: int, start: Callable[..., Kernel]
) -> None:
    kernel = start(lambda _: [number])
    with pytest.raises(SourceRefused, match=errno.errorcode[number]) as refusal:
        read_netlink()
    assert "--source proc" in refusal.value.next_step
    assert kernel.opened == kernel.closed


@pytest.mark.parametrize("number", [errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT])
def test_a_refused_socket_says_how_to_allow_it(number: int, start: Callable[..., Kernel]) -> None:
    start(having()).refuses = number
    with pytest.raises(SourceRefused, match=os.strerror(number)) as refusal:
        read_netlink()
    assert "AF_NETLINK" in refusal.value.next_step


def test_a_kernel_that_stops_answering_is_not_waited_for(start: Callable[..., Kernel]) -> None:
    kernel = start(lambda _: [IDLE, TimeoutError("timed out")])
    with pytest.raises(SourceError, match="stopped answering") as problem:
        read_netlink()
    assert problem.value.next_step
    assert len(kernel.requests) == 1
    assert kernel.opened == kernel.closed


def test_a_dump_that_lost_rows_is_taken_again(start: Callable[..., Kernel]) -> None:
    failures = [NO_BUFFERS, NO_BUFFERS]

    def script(request: Request) -> list[object]:
        return [*MANY, failures.pop()] if failures else having(IDLE, LISTENER)(request)

    kernel = start(script)
    seen = read_netlink()
    assert cookies(seen.table) == [1, 2]
    assert seen.gaps == []
    assert kernel.opened == kernel.closed == 3


@pytest.mark.parametrize("end", ["alone", "behind the last rows", "behind a few rows"])
def test_many_full_datagrams_are_read_to_their_end(end: str, start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        if request.states != ALL:
            return having(LISTENER)(request)
        row = message(GETSOCK, TIME_WAIT.body, seq=request.seq)
        full = row * 360  # about 32 KiB, as the kernel fills them
        last = {"alone": b"", "behind the last rows": full, "behind a few rows": row * 3}[end]
        return [*[full] * 30, last + done(seq=request.seq)]

    start(script)
    counts = read_netlink().table.count_states()
    rows = {"alone": 0, "behind the last rows": 360, "behind a few rows": 3}[end]
    assert counts[State.TIME_WAIT] == 30 * 360 + rows


def test_later_dumps_that_lose_rows_are_taken_again_too(start: Callable[..., Kernel]) -> None:
    failures = [NO_BUFFERS]

    def script(request: Request) -> list[object]:
        if request.filtered and failures:
            return [LISTENER, failures.pop()]
        return having(LISTENER)(request)

    start(script)
    seen = read_netlink()
    assert seen.auto_bound == frozenset({1})
    assert seen.gaps == []


def test_a_dump_that_always_loses_rows_is_an_error(start: Callable[..., Kernel]) -> None:
    kernel = start(lambda _: [IDLE, NO_BUFFERS])
    with pytest.raises(SourceError, match="dropped"):
        read_netlink()
    assert len(kernel.requests) == 3
    assert kernel.opened == kernel.closed


def test_other_errors_while_reading_are_refusals(start: Callable[..., Kernel]) -> None:
    start(lambda _: [OSError(errno.EIO, "Input/output error")])
    with pytest.raises(SourceRefused, match="Input/output error"):
        read_netlink()


def test_an_inconsistent_dump_is_taken_again(start: Callable[..., Kernel]) -> None:
    answers: list[list[object]] = [[INTERRUPTED, IDLE], [IDLE, LISTENER]]
    start(lambda request: answers.pop(0) if answers else having(LISTENER)(request))
    seen = read_netlink()
    assert cookies(seen.table) == [1, 2]
    assert seen.gaps == []


def test_a_dump_that_stays_inconsistent_is_a_gap(start: Callable[..., Kernel]) -> None:
    kernel = start(lambda request: [INTERRUPTED, *having(IDLE)(request)])
    seen = read_netlink()
    assert cookies(seen.table) == [2]
    assert [(gap.what, gap.partial) for gap in seen.gaps] == [("sockets", True)]
    assert "may be missing" in seen.gaps[0].why
    assert [request.states for request in kernel.requests].count(ALL) == 3


def test_repeated_full_sockets_count_once(start: Callable[..., Kernel]) -> None:
    start(having(IDLE, TIME_WAIT, IDLE, LISTENER, IDLE))
    assert cookies(read_netlink().table) == [1, 2, 4]


def test_ages_that_are_refused_are_a_gap(start: Callable[..., Kernel]) -> None:
    start(lambda request: [errno.EPERM] if request.info else having(WAITING)(request))
    seen = read_netlink()
    assert cookies(seen.table) == [3]
    assert seen.tcp_info == {}
    assert [(gap.what, gap.partial) for gap in seen.gaps] == [("tcp-info", False)]


def test_a_bind_mode_that_is_refused_is_a_gap(start: Callable[..., Kernel]) -> None:
    start(lambda request: [errno.EINVAL] if request.filtered else having(LISTENER)(request))
    seen = read_netlink()
    assert cookies(seen.table) == [1]
    assert seen.auto_bound is None
    assert [(gap.what, gap.partial) for gap in seen.gaps] == [("bind-mode", False)]


PROTOCOLS = (
    "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in\n"
    "MPTCPv6   2144      0       0   no       0   yes  kernel      y  n  y  y  n  y\n"
    "MPTCP     1968      {}       0   no       0   yes  kernel      y  n  y  y  n  y\n"
)


def test_mptcp_connections_that_wait_are_added(start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        if request.protocol == 262:
            assert request.states == CLOSE_WAIT | FIN_WAIT2
            return [Row(state=8, sport=80, cookie=2)] if request.family == 2 else []
        return having(IDLE)(request)

    start(script, PROTOCOLS.format(2))
    table = read_netlink().table
    assert [row.state for row in table] == [State.ESTABLISHED, State.CLOSE_WAIT]
    assert table.mptcp == {1}


def test_mptcp_connections_that_cannot_be_seen_are_a_gap(start: Callable[..., Kernel]) -> None:
    start(having(IDLE), PROTOCOLS.format(2))
    assert [(gap.what, gap.partial) for gap in read_netlink().gaps] == [("mptcp", True)]


@pytest.mark.parametrize("protocols", ["", PROTOCOLS.format(0), "MPTCP\nMPTCP x ²\n"])
def test_a_host_without_mptcp_sockets_is_not_asked(
    protocols: str, start: Callable[..., Kernel]
) -> None:
    kernel = start(having(IDLE), protocols)
    assert read_netlink().gaps == []
    assert {request.protocol for request in kernel.requests} == {6}


def test_a_datagram_that_does_not_fit_is_an_error(start: Callable[..., Kernel]) -> None:
    start(lambda _: [bytes(1 << 17)])
    with pytest.raises(SourceError, match="unexpected size"):
        read_netlink()


def test_the_answer_to_an_earlier_request_is_passed_over(start: Callable[..., Kernel]) -> None:
    start(lambda request: [error(1, seq=99), done(2, seq=99), *having(IDLE)(request)])
    assert cookies(read_netlink().table) == [2]


def test_auto_falls_back_to_proc_and_says_so(
    start: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(lambda _: [errno.ENOENT])
    monkeypatch.setattr(proc, "read_text", {"/proc/net/tcp": " sl local_address\n"}.get)
    snapshot = collect("auto")
    assert snapshot.source == "proc"
    (gap,) = (gap for gap in snapshot.gaps if gap.what == "netlink")
    assert "ENOENT" in gap.why
    assert "/proc/net/tcp was read instead" in gap.why
    assert gap.how


def test_neither_netlink_nor_proc_is_an_error_with_a_next_step(
    start: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(lambda _: [errno.ENOENT])
    monkeypatch.setattr(proc, "read_text", lambda _: None)
    with pytest.raises(SourceError) as problem:
        collect("auto")
    assert "ENOENT" in problem.value.what
    assert "/proc/net/tcp" in problem.value.what
    assert "mount /proc" in problem.value.next_step
    assert problem.value.exit_code == 3


def test_a_named_source_does_not_fall_back(start: Callable[..., Kernel]) -> None:
    start(lambda _: [errno.ENOENT])
    with pytest.raises(SourceRefused):
        collect("netlink")
