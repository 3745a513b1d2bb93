"""What one socket row costs in bytecode instructions, calls and bytes: a guard without a clock.

The dumps are made up, byte for byte as the kernel sends them, so that the sizes and shapes of hosts
in trouble need neither root nor a minute.
"""

from __future__ import annotations

import gc
import struct
import sys
import tracemalloc
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final

import pytest

from twdiag import rules
from twdiag.census import addresses as addresses_module
from twdiag.model.? import SocketTable
from twdiag.model.sockets import TIMER_TIME_WAIT
from twdiag.model.snapshot import Host, Snapshot
from twdiag.model.limits import Limits
from twdiag.sources.live.inet_diag import AF_INET, AF_INET6, NLMSG_DONE, SOCK_DIAG_BY_FAMILY, Dump
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SERVICE: Final = 8080
PORTS: Final = range(32768, 61000)
SYSCTLS: Final = {
    "net.ipv4.ip_local_port_range": f"{PORTS.start}\t{PORTS.stop - 1}",
    "net.ipv4.ip_local_reserved_ports": "",
    "net.ipv4.tcp_max_tw_buckets": "1048576",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_timestamps": "1",
}

# A TIME_WAIT as root sees it: the netlink header, struct inet_diag_msg (uapi/linux/inet_diag.h) and
# the attribute INET_DIAG_MARK.  The fields between the four bytes and the mark are filled in later.
ROW: Final = struct.Struct("=IHHII BBBB 68x HHI")
WORDS: Final = ROW.size // 4
DONE: Final = struct.Struct("=IHHIIi")
MARK: Final = 15
ROWS_IN_DATAGRAM: Final = 32768 // ROW.size
DATAGRAMS_AT_A_TIME: Final = 8  # as the netlink reader does
SPORT, DPORT = 10, 11  # in half-words
SRC, DST, COOKIE, EXPIRES = 6, 10, 15, 17  # in words

MOST_INSTRUCTIONS: Final = 2.0
"""Bytecode instructions that one row more may cost.

Work per eight datagrams, spread over their 2,728 rows, takes 0.5 to 1.6.  One comprehension over
the rows takes 5 and more, one Python function called per row 20.
"""
MOST_INSTRUCTIONS_NEW_ADDRESS: Final = 20.0
"""The same where every row brings a remote address not seen before, so that groups are rows."""
MOST_CALLS: Final = 0.1
"""Python functions called or resumed per row.  One per row would be 1."""
MOST_BYTES: Final = 120
"""Bytes per row at the peak.  The columns hold 51; 600,000 rows and the interpreter fit in 120 MB.
"""
MOST_BYTES_NEW_IPV6: Final = 150
"""The same where every row brings an IPv6 address not seen before, of which only those with many
rows are told apart.
"""
MOST_MEGABYTES: Final = 40
"""What small destinations may take before there are so many that Flows leaves them out."""


@dataclass(frozen=True)
class Shape:
    """What the rows look like: who closed, which family, how many remote addresses (None: all).

    Of family "both" every other row is IPv6, as on hosts with clients of either; of family "dual"
    the others are v4-mapped, as with a dual-stack server.
    `ports` is how many ports the connecting ends take in turn: with few, each has been used so
    often that a rule could take it for a service's.
    """

    role: str
    family: str
    remotes: int | None
    ports: int = 499

    def __str__(self) -> str:
        return f"{self.role}-{self.family}-{self.remotes or 'distinct'}"


SHAPES: Final = [
    Shape(role, family, remotes)
    for role in ("server", "client", "mixed")
    for family in ("ipv4", "mapped", "ipv6", "both")
    for remotes in (1, 41, None)
]


def datagrams(shape: Shape, rows: int) -> Iterator[bytes]:
    """Yield the dump of a host with one listener and so many TIME_WAITs."""
    yield encode(shape, State.LISTEN, [0], [SERVICE], [0], [0], [0])
    for first in range(0, rows, ROWS_IN_DATAGRAM):
        numbers = range(first, min(first + ROWS_IN_DATAGRAM, rows))
        ports = [PORTS[at % shape.ports] for at in numbers]
        remotes = [2 + (at if shape.remotes is None else at % shape.remotes) for at in numbers]
        here = list(repeat(1, len(numbers)))
        served = {"server": 1, "client": 0}.get(shape.role)
        sports, dports = list(ports), list(ports)
        for index, at in enumerate(numbers):
            if served if served is not None else at % 2:
                sports[index] = SERVICE
            else:
                dports[index] = 443
        yield encode(shape, State.TIME_WAIT, here, sports, remotes, dports, numbers)
    yield DONE.pack(DONE.size, NLMSG_DONE, 2, 1, 0, 0)


def encode(
    shape: Shape,
    state: State,
    src: Iterable[int],
    sport: Iterable[int],
    dst: Iterable[int],
    dport: Iterable[int],
    numbers: Iterable[int],
) -> bytes:
    """Return one datagram; address 0 is the wildcard, n is the n-th of 2**24 hosts."""
    columns = [list(column) for column in (src, sport, dst, dport, numbers)]
    other = {"both": "ipv4", "dual": "mapped"}.get(shape.family)
    if other is None:
        return _encode(shape, state, *columns)
    ipv6, ipv4 = (_encode(replace(shape, family=f), state, *columns) for f in ("ipv6", other))
    rows = [(ipv6, ipv4)[row % 2][row * ROW.size :][: ROW.size] for row in range(len(columns[0]))]
    return b"".join(rows)


def _encode(
    shape: Shape,
    state: State,
    src: list[int],
    sport: list[int],
    dst: list[int],
    dport: list[int],
    numbers: list[int],
) -> bytes:
    family = AF_INET if shape.family == "ipv4" else AF_INET6
    timer = TIMER_TIME_WAIT if state == State.TIME_WAIT else 0
    head = (ROW.size, SOCK_DIAG_BY_FAMILY, 2, 1, 0, family, state, timer, 0)
    raw = bytearray(ROW.pack(*head, 8, MARK, 0) * len(numbers))
    halves, words = memoryview(raw).cast("H"), memoryview(raw).cast("I")
    halves[SPORT :: 2 * WORDS] = in_network_order("H", sport)
    halves[DPORT :: 2 * WORDS] = in_network_order("H", dport)
    for word, addresses in ((SRC, src), (DST, dst)):
        if not any(addresses):
            continue
        last = word if shape.family == "ipv4" else word + 3
        words[last::WORDS] = in_network_order("I", (10 << 24 | n for n in addresses))
        if shape.family == "mapped":
            words[word + 2 :: WORDS] = in_network_order("I", [0xFFFF] * len(addresses))
        if shape.family == "ipv6":
            words[word::WORDS] = in_network_order("I", [0x20010DB8] * len(addresses))
    words[COOKIE::WORDS] = array("I", (n + 1 for n in numbers))
    if timer:
        words[EXPIRES::WORDS] = array("I", (60000 - n * 7919 % 60000 for n in numbers))
    return bytes(raw)


def in_network_order(typecode: str, values: Iterable[int]) -> array[int]:
    column = array(typecode, values)
    if sys.byteorder == "little":
        column.byteswap()
    return column


def diagnose(dump: Iterable[bytes]) -> Snapshot:
    """Decode a dump, group its rows and run every rule over them."""
    decoder, datagrams = Dump(SocketTable()), iter(dump)
    while datagram := b"".join(islice(datagrams, DATAGRAMS_AT_A_TIME)):
        decoder.feed(datagram)
    assert decoder.done
    decoder.table.settle()
    snapshot = Snapshot(0.0, Host("host", "6.18"), "netlink", decoder.table, sysctls=SYSCTLS)
    rules.inodes_wanted(snapshot, Limits())
    rules.analyze(snapshot, Limits())
    return snapshot


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Let what is imported and built for the first finding be there before anything is counted."""
    for shape in SHAPES:
        diagnose(datagrams(shape, 2000))


@dataclass
class Work:
    """The bytecode instructions run and the functions called or resumed, by function."""

    instructions: Counter[str]
    calls: Counter[str]

    def per_row(self, before: Work, rows: int) -> tuple[float, float, list[tuple[str, float]]]:
        """Return what each row more than before costs: instructions, calls, the worst functions."""
        grown = self.instructions - before.instructions
        worst = [(name, round(count / rows, 3)) for name, count in grown.most_common(5)]
        calls = (self.calls - before.calls).total()
        return grown.total() / rows, calls / rows, worst


def work(shape: Shape, rows: int) -> Work:
    """Return the work that a diagnosis of so many rows takes."""
    done = Work(Counter(), Counter())

    def trace(frame: Any, event: str, argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        done.calls[name] += 1

        def count(frame: object, event: str, argument: object) -> Any:
            done.instructions[name] += event == "opcode"
            return count

        return count

    dump = list(datagrams(shape, rows))
    before = sys.gettrace()
    # Python 3.12 reports instructions only if some frame asked for them before settrace().
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        diagnose(dump)
    finally:
        sys.settrace(before)
    assert done.instructions
    return done


def peak(shape: Shape, rows: int) -> int:
    """Return the most bytes that a diagnosis holds at a time."""
    dump = list(datagrams(shape, rows))
    gc.collect()
    tracemalloc.start()
    try:
        diagnose(dump)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Counted from `few` rows to `many`, so that what a host of any size costs drops out.  With so many,
# no row is the first of its port, each port has been used 60 times, and each of the 41 remotes has
# closes in all 60 seconds.
FEW, MANY = 30_000, 40_000
# Flows leaves small destinations out from 200,000 rows on, which has its own code.
HUGE: Final = [(Shape("client", family, None), 220_000, 250_000) for family in ("ipv4", "ipv6")]


@pytest.mark.parametrize(
    ("shape", "few", "many"),
    [*((shape, FEW, MANY) for shape in SHAPES), *HUGE],
    ids=str,
)
def test_a_row_costs_little_whatever_their_number(shape: Shape, few: int, many: int) -> None:
    instructions, calls, worst = work(shape, many).per_row(work(shape, few), many - few)
    most = MOST_INSTRUCTIONS if shape.remotes else MOST_INSTRUCTIONS_NEW_ADDRESS
    assert instructions < most, worst
    assert calls < MOST_CALLS, worst


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.remotes == 41], ids=str)
def test_a_row_takes_few_bytes(shape: Shape) -> None:
    assert (peak(shape, MANY) - peak(shape, FEW)) / (MANY - FEW) < MOST_BYTES


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_as_many_addresses_as_rows_fit_in_memory(role: str, family: str) -> None:
    shape = Shape(role, family, None, ports=len(PORTS))
    most = MOST_BYTES_NEW_IPV6 if family == "ipv6" else MOST_BYTES
    assert peak(shape, 300_000) < 300_000 * most
    assert peak(shape, 190_000) < MOST_MEGABYTES * 1_000_000


def test_v4_mapped_clients_let_ipv6_ones_be_loose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses_module, "_MOST_TOLD_APART", 1000)
    rows, batch = 12_000, ROWS_IN_DATAGRAM * DATAGRAMS_AT_A_TIME
    snapshot = diagnose(datagrams(Shape("server", "dual", None, ports=len(PORTS)), rows))
    assert snapshot.sockets.addresses.ipv6_count < 1000 + batch
    assert len(set(snapshot.sockets.dst)) == rows + 1
    assert snapshot.flows.servers[0].sockets == rows


def test_the_dump_made_up_here_is_read_as_meant() -> None:
    for shape in SHAPES:
        snapshot = diagnose(datagrams(shape, 1000))
        states = snapshot.sockets.count_states()
        assert states == {State.LISTEN: 1, State.TIME_WAIT: 1000}
        served = snapshot.flows.servers
        expected = {"server": 1000, "client": 0, "mixed": 500}[shape.role]
        assert sum(server.sockets for server in served) == expected
        made = sum(snapshot.flows.connections.values())
        assert made == 1000 - expected
