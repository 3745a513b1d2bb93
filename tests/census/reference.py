"""Random hosts, and what a naive count of their sockets gives: one after the other, all as text."""

from __future__ import annotations

import socket as sockets_of_python
from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.sources.live.sockets.wire import BY_FAMILY, Row, message
from twdiag.census.adding_up import census_of
from twdiag.census.intake import REPEATED, Intake
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets.blocks import Block, hand_over
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twdiag.model.census import Census, Tally

SYSCTLS = {"net.ipv4.ip_local_port_range": "40000 40009"}
V4 = ("127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3")
V6 = ("::1", "2001:db8::1", "2001:db8::2", "fe80::1%2")
WILD = ("0.0.0.0", "::")
LISTEN_PORTS = (80, 8080, 40000, 40003)
PORTS = (*LISTEN_PORTS, 40001, 40002, 40009, 50000, 8081)
REMOTE_PORTS = (443, 5432, 10239, 10240, *range(50000, 50030))
KEPT = (2, 4, 5, 7, 8, 9, 11)
CONNECTED = tuple(state for state in State if state not in (State.LISTEN, State.CLOSE))
EDGES = (0, 1, 1000, 1001, 58_001, 59_000, 59_001, 60_000)

Summary = tuple[dict[State, int], tuple[int, ...], int, dict[int, int]]


@dataclass(frozen=True)
class World:
    """The listeners and bound sockets of a host, and its connections."""

    listening: tuple[Socket, ...]
    connected: tuple[Socket, ...]

    def one_by_one(self) -> Census:
        """Return the census of sockets taken one at a time."""
        intake = Intake(self.listening, SYSCTLS)
        for socket in self.connected:
            intake.take(socket)
        return census_of(intake)

    def in_blocks(self, seed: int) -> Census:
        """Return the census of the same sockets, in blocks of random size."""
        random, intake = Random(seed), Intake(self.listening, SYSCTLS)
        rest = list(self.connected)
        while rest:
            size = random.choice((1, 2, 7, len(rest)))
            batch, rest = rest[:size], rest[size:]
            for socket in batch:
                if socket.mptcp:
                    intake.keep(socket)
            raw = [encoded(s, mapped=random.random() < 0.3) for s in batch if not s.mptcp]
            if raw:
                hand_over(Block(b"".join(raw), len(raw[0])), intake)
        return census_of(intake)


def world_of(seed: int) -> World:
    """Return a dense world: listeners of every kind, connections in every role, bound sockets."""
    random = Random(seed)
    listening = []
    for _ in range(random.randint(0, 6)):
        address = random.choice([*V4, *V4, *V6, *WILD, *WILD])
        anywhere = "::" if ":" in address else "0.0.0.0"
        port = random.choice((80, *LISTEN_PORTS))
        v6only = ":" in address and random.random() < 0.5
        listening.append(Socket(State.LISTEN, address, port, anywhere, 0, v6only=v6only))
    for _ in range(random.choice([0, 0, 1, 2])):
        address, port = random.choice(V4), random.choice(PORTS)
        listening.append(Socket(State.CLOSE, address, port, "0.0.0.0", 0, bound=True))
    wide = random.choice((REMOTE_PORTS, REMOTE_PORTS[:4]))
    connected = [connection(random, n + 1, wide) for n in range(random.choice((0, 3, 40, 200)))]
    return World(tuple(listening), tuple(connected))


def connection(random: Random, number: int, remote_ports: Sequence[int]) -> Socket:
    """Return any connection that a kernel can show; `number` is its cookie."""
    family = random.choice([V4, V4, V6])
    state = random.choice([*CONNECTED, State.TIME_WAIT, State.TIME_WAIT, State.FIN_WAIT2])
    timer = 3 if state is State.TIME_WAIT else random.choice([0, 1, 2])
    if state is State.FIN_WAIT2 and random.random() < 0.6:
        timer = 3
    expires = random.choice([*EDGES, *(random.randint(0, 60_000) for _ in EDGES), 90_000])
    return Socket(
        state,
        random.choice(family),
        random.choice((80, 40001, 40001, *PORTS)),
        random.choice(family),
        random.choice(remote_ports),
        timer,
        expires + 7_200_000 if timer == 2 else expires,
        random.choice((0, 0, REPEATED - 1, REPEATED, 200)),
        inode=random.randint(1, 1 << 31),
        cookie=number,
        mptcp=state in (State.CLOSE_WAIT,) and random.random() < 0.1,
    )


def encoded(socket: Socket, *, mapped: bool = False) -> bytes:
    """Return a socket as sock_diag writes it; an IPv4 one can be v4-mapped."""
    source, destination = raw_of(socket.local_address), raw_of(socket.remote_address)
    family = sockets_of_python.AF_INET if len(source) == 4 else sockets_of_python.AF_INET6
    if mapped and len(source) == 4:
        family = sockets_of_python.AF_INET6
        source, destination = (bytes(10) + b"\xff\xff" + raw for raw in (source, destination))
    scoped = "%" in socket.local_address + socket.remote_address
    row = Row(
        family,
        socket.state,
        source,
        socket.local_port,
        destination,
        socket.remote_port,
        timer=socket.timer,
        retrans=socket.retrans,
        interface=2 if scoped else 0,
        cookie=socket.cookie,
        expires=socket.expires,
        inode=socket.inode,
    )
    return message(BY_FAMILY, row.body)


def is_kept(row: Socket) -> bool:
    """Whether a row is kept one by one: because of its state, or data that nobody acknowledges."""
    repeats = row.timer == 1 and row.retrans >= REPEATED
    return (row.state in KEPT and row.timer != 3) or (row.state is State.ESTABLISHED and repeats)


def raw_of(text: str) -> bytes:
    """Return the bytes of an address."""
    family = sockets_of_python.AF_INET6 if ":" in text else sockets_of_python.AF_INET
    return sockets_of_python.inet_pton(family, text.partition("%")[0])


# The naive count.


class Naive:
    """What a census should say of a world."""

    def __init__(self, world: World) -> None:
        self.listening, self.rows = world.listening, world.connected
        self.taken = {socket.local_port for socket in world.listening}

    def usable(self, port: int) -> bool:
        """Whether connect() hands a port out."""
        return 40000 <= port <= 40009 and port not in self.taken

    def other(self, row: Socket) -> bool:
        """Whether no listener of a row's family has its port, nor does connect() hand it out."""
        ports = {s.local_port for s in self.listening if listens_to(s, row.local_address)}
        return not self.usable(row.local_port) and row.local_port not in ports

    def listener_of(self, row: Socket) -> tuple[str, int] | None:
        """Return the listener that the kernel would give a connection."""
        address, port = row.local_address, row.local_port
        on_port = [s for s in self.listening if s.state is State.LISTEN and s.local_port == port]
        here = [s.local_address for s in on_port]
        if address in here:
            return address, port
        if ":" in address:
            return ("::", port) if "::" in here else None
        if "0.0.0.0" in here:
            return "0.0.0.0", port
        dual = any(s.local_address == "::" and not s.v6only for s in on_port)
        return ("::", port) if dual else None

    @property
    def clients(self) -> list[Socket]:
        """The rows of this host's clients."""
        return [row for row in self.rows if self.usable(row.local_port) and not row.mptcp]

    @property
    def fixed(self) -> list[Socket]:
        """The rows from other ports to services."""
        return [
            row
            for row in self.rows
            if self.other(row) and row.remote_port < 10240 and not row.mptcp
        ]

    @property
    def servers(self) -> dict[tuple[str, int], list[Socket]]:
        """The rows of each listener."""
        found = defaultdict(list)
        for row in self.rows:
            if listener := self.listener_of(row):
                found[listener].append(row)
        return found

    def top_clients(self, listener: tuple[str, int]) -> Counter[str]:
        """Return the closed connections of a listener by remote address."""
        here = (row for row in self.rows if self.listener_of(row) == listener)
        return Counter(row.remote_address for row in here if row.timer == 3)

    @property
    def destinations(self) -> dict[tuple[str, str, int], list[Socket]]:
        """The clients' rows of each destination."""
        found = defaultdict(list)
        for row in self.clients:
            found[row.local_address, row.remote_address, row.remote_port].append(row)
        return found

    @property
    def left_overs(self) -> dict[int, tuple[tuple[str, ...], int, Summary]]:
        """Return {port: (addresses, remote ports of clients, sums)}."""
        found = {}
        for port in {row.local_port for row in self.rows}:
            rows = (row for row in self.rows if row.local_port == port)
            here = [row for row in rows if self.listener_of(row) is None]
            here = [row for row in here if not row.mptcp]  # its subflows are rows, too
            far = [row for row in here if row.remote_port >= 10240]
            remote_ports = {row.remote_port for row in far}
            if len(remote_ports) >= (20 if self.usable(port) else 1):
                ends = far if self.usable(port) else here
                addresses = tuple(sorted({row.local_address for row in ends}))
                found[port] = addresses, len(remote_ports), summary_of(ends)
        return found


def listens_to(socket: Socket, address: str) -> bool:
    """Whether a listener could take connections to some address of this one's family."""
    if socket.state is not State.LISTEN:
        return False
    if socket.local_address == "::":
        return ":" in address or not socket.v6only
    return (":" in socket.local_address) == (":" in address)


def summary_of(rows: Iterable[Socket]) -> Summary:
    """Return (states, seconds newest last, TIME_WAITs, orphans by seconds left)."""
    states: Counter[State] = Counter()
    seconds, orphans, total = [0] * 60, Counter[int](), 0
    for row in rows:
        states[row.state] += 1
        if row.state is State.TIME_WAIT:
            total += 1
            if row.expires:
                seconds[59 - (60_000 - min(row.expires, 60_000)) // 1000] += 1
        elif row.state is State.FIN_WAIT2 and row.timer == 3:
            orphans[min(66, -(-row.expires // 1000))] += 1
    return dict(states), tuple(seconds), total, dict(orphans)


def told(tally: Tally) -> Summary:
    """Return a tally as summary_of() has it."""
    seconds, total = tally.time_wait
    states = {state: count for state, count in tally.states.items() if count}
    return states, seconds, total, dict(tally.orphans)
