"""The netlink reader against a kernel that refuses, stalls, loses rows or has no IPv6."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.sockets import Socket
from twdiag.sources import collect
from twdiag.sources.live.sockets import channel, netlink, proc_tcp
from twdiag.sources.live.sockets.netlink import read_netlink
from twdiag.tcp import State

from .fake_kernel import INTERRUPTED, Foreign, Kernel, Request
from .wire import GETSOCK, INFO, Row, done, error, message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twdiag.sources.live.sockets.seen import Seen

V6 = socket.AF_INET6
LISTEN, CLOSE_WAIT, FIN_WAIT2 = (1 << state for state in (10, 8, 5))
CONNECTED = (1 << 14) - 2 & ~(1 << 10 | 1 << 13 | 1 << 7)
BOUND = 1 << 13
LISTENER = Row(state=10, sport=80, dport=0, cookie=1)
IDLE = Row(sport=80, cookie=2, inode=7)
IDLE_V6 = Row(V6, 1, bytes(15) + b"\1", 80, bytes(16), 9, cookie=7)
WAITING = Row(state=8, sport=80, cookie=3, inode=5)
TIME_WAIT = Row(state=6, timer=3, sport=80, cookie=4)
MANY = [TIME_WAIT] * 4000  # more than the decoder keeps before it hands a block over
NO_BUFFERS = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kernel]:
    """Put a kernel in the place of the real one; the files of /proc are absent unless given."""

    def begin(
        script: Callable[[Request], list[object]], protocols: str = "", *, ipv6: bool = True
    ) -> Kernel:
        kernel = Kernel(script)
        monkeypatch.setattr(channel, "socket", kernel)
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


MANY_FULL = {"TCP.inuse": 30_000, "TCP.alloc": 30_100, "TCP.tw": 10}


def states(seen: Seen) -> dict[str, int]:
    return {state.name: count for state, count in seen.census.states.items()}


def asked(kernel: Kernel) -> list[tuple[int, bool, bool]]:
    return [(r.states, r.info, r.filtered) for r in kernel.requests]


def test_an_idle_host_is_asked_for_listeners_and_then_for_all_else(
    start: Callable[..., Kernel],
) -> None:
    kernel = start(having(LISTENER, IDLE, TIME_WAIT))
    seen = read_netlink()
    assert states(seen) == {"LISTEN": 1, "ESTABLISHED": 1, "TIME_WAIT": 1}
    assert seen.gaps == []
    assert asked(kernel) == [
        (LISTEN | BOUND, False, False),
        (LISTEN, False, True),
        (CONNECTED, True, False),
    ]
    assert {request.family for request in kernel.requests} == {None}
    assert kernel.opened == kernel.closed == 1


def with_ages(request: Request) -> list[object]:
    row = Row(state=8, cookie=3, sport=80, attributes=((INFO, AGES),) if request.info else ())
    return [*having(IDLE)(request), *([row] if request.states & CLOSE_WAIT else [])]


AGES = struct.pack("=44x4I", 7, 0, 30_000, 20_000) + bytes(220)


@pytest.mark.parametrize("sockstat", [{}, MANY_FULL])
def test_ages_come_with_the_dump_of_few_sockets_and_by_a_second_walk_of_many(
    sockstat: dict[str, int], start: Callable[..., Kernel]
) -> None:
    kernel = start(with_ages)
    seen = read_netlink({}, sockstat)
    (waiting,) = seen.census.sockets
    assert waiting.info == (7, 30_000, 20_000)
    assert states(seen) == {"ESTABLISHED": 1, "CLOSE_WAIT": 1}
    with_info = [r.states for r in kernel.requests if r.info]
    assert with_info == ([CLOSE_WAIT | FIN_WAIT2] if sockstat else [CONNECTED])


def test_a_socket_that_began_to_wait_after_the_dump_is_not_added(
    start: Callable[..., Kernel],
) -> None:
    def script(request: Request) -> list[object]:
        late = [Row(state=8, cookie=9)] if request.info else []
        return [*having(WAITING)(request), *late]

    start(script)
    assert states(read_netlink({}, MANY_FULL)) == {"CLOSE_WAIT": 1}


def test_mini_sockets_have_no_ages_to_ask_for(start: Callable[..., Kernel]) -> None:
    kernel = start(having(Row(state=5, timer=3, cookie=9)))
    assert read_netlink({}, MANY_FULL).gaps == []
    assert not any(request.info for request in kernel.requests)


@pytest.mark.parametrize(
    ("sockstat", "listed"),
    [
        ({}, True),
        ({"TCP.tw": 20_000, "TCP.inuse": 5, "TCP.alloc": 9}, True),
        ({"TCP.tw": 20_001, "TCP.inuse": 5, "TCP6.inuse": 3, "TCP.alloc": 73}, True),
        ({"TCP.tw": 20_001, "TCP.inuse": 5, "TCP6.inuse": 3, "TCP.alloc": 72}, False),
        ({"TCP.tw": 20_001}, True),
    ],
)
def test_bound_sockets_are_left_out_only_where_few_can_be_and_the_walk_is_long(
    sockstat: dict[str, int], listed: bool, start: Callable[..., Kernel]
) -> None:
    bound = Row(state=13, sport=7001, dport=0, cookie=8)
    kernel = start(having(LISTENER, bound))
    seen = read_netlink({}, sockstat)
    assert any(request.states & BOUND for request in kernel.requests) == listed
    assert sum(s.bound for s in seen.census.sockets) == listed
    assert [(gap.what, gap.partial) for gap in seen.gaps] == ([] if listed else [("bound", True)])
    assert all("at most 64" in gap.why for gap in seen.gaps)


def test_a_kernel_without_the_short_request_is_asked_per_family(
    start: Callable[..., Kernel],
) -> None:
    def script(request: Request) -> list[object]:
        return [errno.EINVAL] if request.family is None else having(IDLE, IDLE_V6)(request)

    kernel = start(script)
    assert states(read_netlink()) == {"ESTABLISHED": 2}
    assert [r.family for r in kernel.requests] == [None, *[2, 10] * 3]
    assert kernel.opened == kernel.closed == 2


def test_rows_before_a_refusal_are_not_counted_twice(start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        if request.states == CONNECTED and request.family is None:
            return [*MANY, errno.EINVAL]
        return having(TIME_WAIT, IDLE_V6)(request)

    kernel = start(script)
    assert states(read_netlink()) == {"TIME_WAIT": 1, "ESTABLISHED": 1}
    assert [r.family for r in kernel.requests if r.states == CONNECTED] == [None, 2, 10]


def test_a_kernel_without_ipv6_has_no_gap(start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        return having(LISTENER)(request) if request.family == socket.AF_INET else [errno.ENOENT]

    start(script, ipv6=False)
    seen = read_netlink()
    assert states(seen) == {"LISTEN": 1}
    assert seen.gaps == []
    assert [s.auto_bound for s in seen.census.sockets] == [True]


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


@pytest.mark.parametrize("listening", [False, True])
def test_a_dump_that_lost_rows_is_taken_again(
    listening: bool, start: Callable[..., Kernel]
) -> None:
    failures = [NO_BUFFERS, NO_BUFFERS]

    def script(request: Request) -> list[object]:
        if failures and bool(request.states & LISTEN) == listening:
            return [*(MANY if not listening else [LISTENER]), failures.pop()]
        return having(IDLE, LISTENER)(request)

    kernel = start(script)
    seen = read_netlink()
    assert states(seen) == {"ESTABLISHED": 1, "LISTEN": 1}
    assert seen.gaps == []
    assert kernel.opened == kernel.closed == 3


@pytest.mark.parametrize("end", ["alone", "behind the last rows", "behind a few rows"])
def test_many_full_datagrams_are_read_to_their_end(end: str, start: Callable[..., Kernel]) -> None:
    def script(request: Request) -> list[object]:
        if request.states != CONNECTED:
            return having(LISTENER)(request)
        row = message(GETSOCK, TIME_WAIT.body, seq=request.seq)
        full = row * 360  # about 32 KiB, as the kernel fills them
        last = {"alone": b"", "behind the last rows": full, "behind a few rows": row * 3}[end]
        return [*[full] * 30, last + done(seq=request.seq)]

    start(script)
    rows = {"alone": 0, "behind the last rows": 360, "behind a few rows": 3}[end]
    assert states(read_netlink())["TIME_WAIT"] == 30 * 360 + rows


def test_a_lost_question_for_the_bind_mode_is_asked_again(start: Callable[..., Kernel]) -> None:
    failures = [NO_BUFFERS]

    def script(request: Request) -> list[object]:
        if request.filtered and failures:
            return [LISTENER, failures.pop()]
        return having(LISTENER)(request)

    start(script)
    seen = read_netlink()
    assert [s.auto_bound for s in seen.census.sockets] == [True]
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


@pytest.mark.parametrize("times", [1, 2])
def test_an_inconsistent_dump_is_taken_again(times: int, start: Callable[..., Kernel]) -> None:
    answers: list[list[object]] = [[INTERRUPTED, *MANY]] * times

    def script(request: Request) -> list[object]:
        if request.states == CONNECTED and answers:
            return answers.pop()
        return having(LISTENER, IDLE)(request)

    start(script)
    seen = read_netlink()
    assert states(seen) == {"ESTABLISHED": 1, "LISTEN": 1}
    assert seen.gaps == []


def test_a_dump_that_stays_inconsistent_is_a_gap(start: Callable[..., Kernel]) -> None:
    kernel = start(lambda request: [INTERRUPTED, *having(IDLE)(request)])
    seen = read_netlink()
    assert states(seen) == {"ESTABLISHED": 1}
    assert [(gap.what, gap.partial) for gap in seen.gaps] == [("sockets", True)]
    assert "may be missing" in seen.gaps[0].why
    assert [request.states for request in kernel.requests].count(CONNECTED) == 3


def test_kept_sockets_and_listeners_that_a_dump_repeats_count_once(
    start: Callable[..., Kernel],
) -> None:
    start(having(WAITING, TIME_WAIT, WAITING, LISTENER, LISTENER))
    assert states(read_netlink()) == {"CLOSE_WAIT": 1, "TIME_WAIT": 1, "LISTEN": 1}


def test_ages_that_are_refused_are_a_gap(start: Callable[..., Kernel]) -> None:
    start(lambda request: [errno.EPERM] if request.info else having(WAITING)(request))
    seen = read_netlink({}, MANY_FULL)
    assert states(seen) == {"CLOSE_WAIT": 1}
    assert [s.info for s in seen.census.sockets] == [None]
    assert [(gap.what, gap.partial) for gap in seen.gaps] == [("tcp-info", False)]


def test_a_bind_mode_that_is_refused_is_a_gap(start: Callable[..., Kernel]) -> None:
    start(lambda request: [errno.EINVAL] if request.filtered else having(LISTENER)(request))
    seen = read_netlink()
    assert [s.auto_bound for s in seen.census.sockets] == [None]
    assert [(gap.what, gap.partial) for gap in seen.gaps] == [("bind-mode", False)]


@pytest.mark.parametrize("raw", [b"", bytes(1 << 17), done(), error(1), message(99, b"")])
def test_a_datagram_from_another_process_is_passed_over(
    raw: bytes, start: Callable[..., Kernel]
) -> None:
    start(lambda request: [Foreign(raw), *having(IDLE)(request), Foreign(raw)])
    assert states(read_netlink()) == {"ESTABLISHED": 1}


@pytest.mark.parametrize("kind", [5, 19, 21])
def test_a_message_that_nobody_knows_is_an_error(kind: int, start: Callable[..., Kernel]) -> None:
    start(lambda request: [message(kind, bytes(4), seq=request.seq)])
    with pytest.raises(SourceError, match=f"unknown type {kind}"):
        read_netlink()


def test_an_acknowledgement_does_not_end_a_dump(start: Callable[..., Kernel]) -> None:
    start(lambda request: [IDLE, error(0, seq=request.seq)])
    with pytest.raises(SourceError, match="acknowledged"):
        read_netlink()


PROTOCOLS = (
    "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in\n"
    "MPTCPv6   2144      0       0   no       0   yes  kernel      y  n  y  y  n  y\n"
    "MPTCP     1968      {}       0   no       0   yes  kernel      y  n  y  y  n  y\n"
)


@pytest.mark.parametrize("failures", [0, 2])
def test_mptcp_connections_that_wait_are_added(failures: int, start: Callable[..., Kernel]) -> None:
    left = [NO_BUFFERS] * failures

    def script(request: Request) -> list[object]:
        if request.protocol == 262:
            assert request.states == CLOSE_WAIT | FIN_WAIT2
            rows = [Row(state=8, sport=80, cookie=2)] if request.family == 2 else []
            return [*rows, *([left.pop()] if left else [])]
        return having(IDLE)(request)

    start(script, PROTOCOLS.format(2))
    seen = read_netlink()
    assert [(s.state, s.mptcp) for s in seen.census.sockets] == [(State.CLOSE_WAIT, True)]
    assert states(seen) == {"ESTABLISHED": 1, "CLOSE_WAIT": 1}
    assert seen.gaps == []


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
    assert states(read_netlink()) == {"ESTABLISHED": 1}


def test_auto_falls_back_to_proc_and_says_so(
    start: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(lambda _: [errno.ENOENT])
    monkeypatch.setattr(
        proc_tcp, "parse_tcp", lambda *_: iter([Socket(State.TIME_WAIT, *END, *END)])
    )
    snapshot = collect("auto")
    assert snapshot.source == "proc"
    assert snapshot.census.states[State.TIME_WAIT] >= 1
    (gap,) = (gap for gap in snapshot.gaps if gap.what == "netlink")
    assert "ENOENT" in gap.why
    assert "/proc/net/tcp was read instead" in gap.why
    assert gap.how


END = ("10.0.0.1", 80)


def test_neither_netlink_nor_proc_is_an_error_with_a_next_step(
    start: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Iterator[Socket]:
        raise OSError(errno.EACCES, "Permission denied")

    start(lambda _: [errno.ENOENT])
    monkeypatch.setattr(proc_tcp, "parse_tcp", refuse)
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
