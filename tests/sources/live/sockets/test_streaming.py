"""Sockets one by one: what the kernel loses, repeats or refuses, and no memory for the rows."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
from collections import deque
from typing import TYPE_CHECKING

import pytest

from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live.sockets import channel, netlink
from twdiag.sources.live.sockets.inet_diag import ALL_STATES, state_bits
from twdiag.sources.live.sockets.proc_tcp import stream_proc
from twdiag.sources.live.sockets.streaming import stream_netlink
from twdiag.tcp import State

from .fake_kernel import INTERRUPTED, Kernel, Request
from .wire import GETSOCK, INFO, Row, done, message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from twdiag.model.snapshot import Gap
    from twdiag.model.sockets import Socket

LISTENER = Row(state=10, sport=80, dport=0, cookie=1)
IDLE = Row(sport=80, cookie=2)
WAITING = Row(state=8, sport=80, cookie=3, inode=5)
AGES = struct.pack("=44x4I", 7, 0, 30_000, 20_000) + bytes(220)
MANY_FULL = {"TCP.inuse": 30_000, "TCP.alloc": 30_100, "TCP.tw": 10}
NO_BUFFERS = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
HALF_CLOSED = state_bits(State.CLOSE_WAIT, State.FIN_WAIT2)


def time_wait(number: int) -> Row:
    return Row(state=6, timer=3, sport=80, dport=1 + number % 65_535, cookie=1000 + number)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kernel]:
    """Put a kernel in the place of the real one, without MPTCP."""

    def begin(script: Callable[[Request], list[object]]) -> Kernel:
        kernel = Kernel(script)
        monkeypatch.setattr(channel, "socket", kernel)
        monkeypatch.setattr(netlink, "read_text", {}.get)
        return kernel

    return begin


def having(*rows: object) -> Callable[[Request], list[object]]:
    """Return the script of a kernel with these rows; what is no row comes with the connected."""

    def answer(request: Request) -> list[object]:
        return [
            row
            for row in rows
            if (request.states >> row.state & 1 if isinstance(row, Row) else request.states & 2)
        ]

    return answer


def streamed(
    states: int = ALL_STATES, sockstat: dict[str, int] | None = None
) -> tuple[list[Socket], list[Gap]]:
    gaps: list[Gap] = []
    listening, connected = stream_netlink(states, sockstat or {}, gaps)
    return [*listening, *connected], gaps


def test_listeners_come_first_and_every_row_once(start: Callable[..., Kernel]) -> None:
    kernel = start(having(IDLE, WAITING, LISTENER))
    sockets, gaps = streamed()
    assert [socket.state.name for socket in sockets] == ["LISTEN", "ESTABLISHED", "CLOSE_WAIT"]
    assert gaps == []
    assert kernel.opened == kernel.closed == 1


def test_the_kernel_is_asked_for_no_other_states(start: Callable[..., Kernel]) -> None:
    kernel = start(having(IDLE, LISTENER))
    sockets, _ = streamed(state_bits(State.TIME_WAIT))
    assert [socket.state for socket in sockets] == [State.LISTEN]  # roles need them
    assert kernel.requests[-1].states == state_bits(State.TIME_WAIT)
    kernel = start(having(LISTENER))
    streamed(state_bits(State.LISTEN))
    assert all(not request.states & 2 for request in kernel.requests)


@pytest.mark.parametrize(
    ("states", "sockstat", "infos"),
    [
        (ALL_STATES, {}, [True]),
        (ALL_STATES, MANY_FULL, [True, False]),
        (HALF_CLOSED, MANY_FULL, [True]),
        (state_bits(State.TIME_WAIT), {}, [False]),
    ],
)
def test_ages_are_asked_for_where_they_tell_and_cost_little(
    states: int, sockstat: dict[str, int], infos: list[bool], start: Callable[..., Kernel]
) -> None:
    def answer(request: Request) -> list[object]:
        attributes = ((INFO, AGES),) if request.info else ()
        row = Row(state=8, cookie=3, sport=80, attributes=attributes)
        return [row] if request.states >> 8 & 1 else []

    kernel = start(answer)
    sockets, _ = streamed(states, sockstat)
    connected = [r for r in kernel.requests if not r.states & 1 << State.LISTEN]
    assert [request.info for request in connected] == infos
    assert [socket.info is not None for socket in sockets] == [True] * bool(states >> 8 & 1)


def test_rows_that_a_dump_repeats_come_once(start: Callable[..., Kernel]) -> None:
    rows = [time_wait(number) for number in range(3000)]
    start(having(*rows[:1500], *rows[1400:], *rows[2990:]))
    sockets, _ = streamed()
    assert sorted(s.cookie for s in sockets) == [row.cookie for row in rows]


def test_a_dump_that_loses_rows_at_once_is_taken_again(start: Callable[..., Kernel]) -> None:
    outcomes = iter([[NO_BUFFERS], [IDLE]])

    def answer(request: Request) -> list[object]:
        return next(outcomes) if request.states & 2 else []

    start(answer)
    assert [socket.state for socket in streamed()[0]] == [State.ESTABLISHED]


def test_a_dump_that_loses_rows_later_is_an_error_after_the_rows(
    start: Callable[..., Kernel],
) -> None:
    start(having(*[time_wait(number) for number in range(4000)], NO_BUFFERS))
    _, connected = stream_netlink(ALL_STATES, {}, [])
    taken = []
    with pytest.raises(SourceError, match="lost a part"):
        taken.extend(connected)
    assert 0 < len({s.cookie for s in taken}) == len(taken) <= 4000


def test_a_dump_that_changed_meanwhile_says_so(start: Callable[..., Kernel]) -> None:
    start(having(INTERRUPTED, IDLE))
    sockets, gaps = streamed()
    assert len(sockets) == 1
    assert [(gap.what, gap.partial) for gap in gaps] == [("sockets", True)]


def test_a_refused_dump_is_never_an_empty_list(start: Callable[..., Kernel]) -> None:
    kernel = start(lambda _: [errno.ENOENT])
    with pytest.raises(SourceRefused):
        stream_netlink(ALL_STATES, {}, [])
    assert kernel.opened == kernel.closed


class Endless(Kernel):
    """A kernel with so many TIME_WAITs, made as they are read."""

    def __init__(self, number: int) -> None:
        super().__init__(lambda request: [])
        self.number = number

    def socket(self, family: int, kind: int, protocol: int) -> EndlessSocket:  # type: ignore[override]
        self.opened += 1
        return EndlessSocket(self)


class EndlessSocket:
    def __init__(self, kernel: Endless) -> None:
        self.kernel, self.answers = kernel, iter([b""])

    def settimeout(self, seconds: float) -> None:
        pass

    def sendto(self, raw: bytes, address: tuple[int, int]) -> None:
        request = Request.of(raw)
        wanted = request.states >> State.TIME_WAIT & 1
        self.answers = _datagrams(self.kernel.number if wanted else 0, request.seq)

    def recvmsg_into(self, buffers: list[bytearray]) -> tuple[int, list[object], int, object]:
        answer = next(self.answers)
        buffers[0][: len(answer)] = answer
        return len(answer), [], 0, (0, 0)

    def close(self) -> None:
        self.kernel.closed += 1


def _datagrams(rows: int, seq: int) -> Iterator[bytes]:
    one = message(GETSOCK, time_wait(0).body, seq=seq)
    at = one.index(struct.pack("=Q", time_wait(0).cookie))
    for start in range(0, rows, 350):
        cookies = (struct.pack("=Q", n) for n in range(start, min(rows, start + 350)))
        yield b"".join(one[:at] + cookie + one[at + 8 :] for cookie in cookies)
    yield done(seq=seq)


def peak_of(number: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the most memory that is held while so many sockets are streamed, in bytes."""
    monkeypatch.setattr(channel, "socket", Endless(number))
    monkeypatch.setattr(netlink, "read_text", {}.get)
    tracemalloc.start()
    try:
        _, connected = stream_netlink(ALL_STATES, {}, [])
        assert sum(1 for _ in connected) == number
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_four_times_as_many_rows_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = peak_of(12_000, monkeypatch), peak_of(48_000, monkeypatch)
    assert many < 1.2 * few


def test_the_files_of_proc_are_read_as_lazily(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  t\n"
    row = "{:4d}: 0100007F:1F90 0100007F:{:04X} {} 00000000:00000000 00:00000000 00000000 0 0 9\n"
    lines = [row.format(n, n, "0A" if n == 1 else "01") for n in (2, 1, 3)]
    (tmp_path / "tcp").write_text(head + "".join(lines) + "nonsense\n")
    gaps: list[Gap] = []
    with pytest.raises(SourceError, match="line 5"):
        stream_proc(gaps, str(tmp_path))
    (tmp_path / "tcp").write_text(head + "".join(lines))
    listening, connected = stream_proc(gaps, str(tmp_path))
    assert [socket.remote_port for socket in listening] == [1]
    assert next(connected).remote_port == 2
    assert {"tcp-info", "bound", "backlog"} <= {gap.what for gap in gaps}
    assert deque(connected, maxlen=1)[0].remote_port == 3


def test_an_unreadable_table_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused):
        stream_proc([], str(tmp_path))
