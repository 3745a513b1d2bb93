"""Make the sockets of a host in trouble, with real connections in a private network namespace."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import time
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from twdiag.lab import kernel, network
from twdiag.sources.live.proc import read_counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SERVICE: Final = 8080
TIME_WAIT_SECONDS: Final = 60
KINDS: Final = ("server", "client", "mixed")
"""Who closes first: TIME_WAIT at the listener, at the connecting end, half of each."""

# A client address connects so often to the server: a busy proxy.  A destination is connected to so
# often by this host: well below half of the default 28,232 ports, above which each connect()
# searches for a free port and takes a hundred times longer.
_PER_CLIENT: Final = 1_000
_PER_DESTINATION: Final = 10_000

_FIRST_PORT: Final = 32_768
"""Of the ports that connect() hands out by default (net.ipv4.ip_local_port_range)."""

# A killed namespace gives its TIME_WAITs back in the background, on the same cores and in the same
# hash table that the next dump walks; 600,000 took less than a second.
_PURGE_SECONDS: Final = 1.5

# A lost FIN is sent again after 0.2, 0.6, 1.4 and 3 seconds.
_ARRIVAL_SECONDS: Final = 5

# An older CLOSE_WAIT is a leak to twdiag (close-wait-age), so that owners are asked for.
_LEAK_SECONDS: Final = 10.5

# What one forked process, one TCP socket and any other descriptor take, measured; all generous.
# A descriptor's share is what the kernel remembers of /proc/PID/fd once somebody has read it.
_PROCESS_BYTES: Final = 2_000_000
_SOCKET_BYTES: Final = 6_000
_DESCRIPTOR_BYTES: Final = 1_500


class BenchError(Exception):
    """The sockets of a setting could not be made."""


def enter_namespace() -> None:
    """Move to a fresh private namespace, with room for every socket and nothing reused."""
    network.enter_private()
    _set_sysctl("tcp_max_tw_buckets", 2_000_000)
    _set_sysctl("tcp_tw_reuse", 0)
    # What is left of the peers that closed towards a CLOSE_WAIT should be gone before measuring.
    _set_sysctl("tcp_fin_timeout", 2)


def _set_sysctl(name: str, value: int) -> None:
    handle = os.open(f"/proc/sys/net/ipv4/{name}", os.O_WRONLY)
    try:
        # Not a buffered file, whose close() would swallow EINVAL.
        os.write(handle, b"%d" % value)
    finally:
        os.close(handle)


def count_time_wait() -> int:
    """Return the TIME_WAITs of this namespace, as /proc/net/sockstat counts them."""
    _, sockstat, _ = read_counters()
    return sockstat["TCP.tw"]


@dataclass(frozen=True)
class Made:
    """TIME_WAITs that were just made: they are complete until the first of them ends."""

    began: float
    seconds: float

    @property
    def complete_until(self) -> float:
        """The time.monotonic() at which the first TIME_WAIT has lived its minute."""
        return self.began + TIME_WAIT_SECONDS


@contextlib.contextmanager
def time_waits(kind: str, count: int, processes: int) -> Iterator[Made]:
    """Have so many TIME_WAITs in a fresh namespace, made by several processes at once."""
    enter_namespace()
    began = time.monotonic()
    # The listeners stay here: without them nobody could tell who was the server.
    listeners = [_listener(SERVICE + number, "0.0.0.0") for number in range(processes)]
    shares = [count // processes + (number < count % processes) for number in range(processes)]
    try:
        with children_to_end() as children:
            for number, share in enumerate(shares):
                maker = _Maker(listeners[number], number)
                children.append(fork(partial(maker.make, kind, share)))
            for child in list(children):
                status = os.waitpid(child, 0)[1]
                children.remove(child)
                if status:
                    raise BenchError(f"making {kind} TIME_WAITs failed; see the traceback above")
        _await_time_waits(count)
        yield Made(began, time.monotonic() - began)
    finally:
        for listener in listeners:
            listener.close()
        network.enter_private()
        time.sleep(_PURGE_SECONDS if count > 1000 else 0)


def _await_time_waits(count: int) -> None:
    """Wait until the last FINs have arrived too; more is right, where both ends closed at once."""
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while (there := count_time_wait()) < count:
        if time.monotonic() > deadline:
            raise BenchError(f"{count} TIME_WAITs were made, and only {there} are there")
        time.sleep(0.01)


def _listener(port: int, address: str, backlog: int = 64) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


class _Maker:
    """Makes TIME_WAITs between this process and itself, no tuple twice.

    A tuple used again would replace its TIME_WAIT, so every client address and every destination
    serves for a limited number of connections; 127.0.0.0/8 has enough of them.  Where the server
    waits, nothing holds the client's port, and connect() would take it again: every 10 seconds
    (EPHEMERAL_PORT_SHUFFLE_PERIOD, net/core/secure_seq.c) it starts to search at another port.
    """

    def __init__(self, listener: socket.socket, number: int) -> None:
        self._listener = listener
        self._port = listener.getsockname()[1]
        self._network = 10 + number

    def make(self, kind: str, count: int) -> None:
        """Make so many TIME_WAITs."""
        if kind in ("server", "mixed"):
            half = count if kind == "server" else count // 2
            for client, share in _split(half, _PER_CLIENT):
                self._close_at_server(f"127.{self._network}.{client >> 8}.{client & 255}", share)
            count -= half
        for server, share in _split(count, _PER_DESTINATION):
            self._close_at_client(f"127.{self._network}.{server >> 8}.{server & 255}", share)

    def _close_at_server(self, client: str, count: int) -> None:
        accept = self._listener._accept  # type: ignore[attr-defined]  # gives a bare descriptor
        for port in range(_FIRST_PORT, _FIRST_PORT + count):
            end = socket.socket()
            end.bind((client, port))
            end.connect(("127.0.0.1", self._port))
            os.close(accept()[0])
            end.close()

    def _close_at_client(self, server: str, count: int) -> None:
        accept = self._listener._accept  # type: ignore[attr-defined]
        for _ in range(count):
            end = socket.socket()
            end.connect((server, self._port))
            handle = accept()[0]
            end.close()
            os.close(handle)


def _split(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (number from 1, share) of a count in shares of at most so many."""
    for number, first in enumerate(range(0, count, most), start=1):
        yield number, min(most, count - first)


@dataclass(frozen=True)
class Share:
    """What one process holds: ends of connections, leaked CLOSE_WAITs, other descriptors."""

    established: int = 0
    close_wait: int = 0
    others: int = 0

    @property
    def fds(self) -> int:
        """The descriptors that it needs, with some to spare for the making."""
        return self.established + 2 * self.close_wait + self.others + 64


def affordable(shares: Sequence[Share]) -> Sequence[Share]:
    """Return the shares, or every n-th of them where the free memory does not hold all."""
    needed = sum(
        _PROCESS_BYTES
        + _SOCKET_BYTES * (share.established + share.close_wait)
        + _DESCRIPTOR_BYTES * share.others
        for share in shares
    )
    with open("/proc/meminfo") as lines:
        free = next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    every = -(-needed * 10 // (free * 6))
    return shares[every - 1 :: every] if every > 1 else shares


@contextlib.contextmanager
def held(shares: Sequence[Share]) -> Iterator[None]:
    """Have processes that hold sockets in a fresh namespace; their CLOSE_WAITs are leaks already.

    Each has a listener of its own and is both ends of its connections.
    """
    enter_namespace()
    _allow_descriptors(max(share.fds for share in shares))
    ready, report = os.pipe()
    try:
        with children_to_end() as children:
            # What children only read should stay shared with this process, the modules too that
            # the first connection imports: with them a child takes half the memory.
            _connect_once()
            gc.freeze()
            for number, share in enumerate(shares):
                holder = _Holder(number, share, report)
                children.append(fork(holder.hold))
            os.close(report)
            report = -1
            _await(ready, len(shares))
            if any(share.close_wait for share in shares):
                time.sleep(_LEAK_SECONDS)
            yield
    finally:
        os.close(ready)
        if report >= 0:
            os.close(report)
        gc.unfreeze()
        network.enter_private()
        time.sleep(_PURGE_SECONDS)


def _connect_once() -> None:
    with _listener(SERVICE, "127.0.0.1") as listener:
        socket.create_connection(listener.getsockname()).close()


def _await(ready: int, count: int) -> None:
    """Wait for a byte of each process; the end comes early where one of them failed."""
    while count:
        answer = os.read(ready, 4096)
        if not answer or b"!" in answer:
            raise BenchError("a process could not make its sockets; see the traceback above")
        count -= len(answer)


def _allow_descriptors(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    except (OSError, ValueError) as error:
        raise BenchError(f"{needed} descriptors in a process: the limit is {hard}") from error


@dataclass(frozen=True)
class _Holder:
    """One process that holds its share; `report` is the pipe on which it says when it does."""

    number: int
    share: Share
    report: int

    def hold(self) -> None:
        """Make the share, say so and stay until killed."""
        try:
            kernel.set_name(f"worker-{self.number}")
            held = self._make()
        except BaseException:
            os.write(self.report, b"!")
            raise
        os.write(self.report, b".")
        os.close(self.report)
        while held:
            signal.pause()

    def _make(self) -> list[socket.socket | int]:
        address = f"127.1.{self.number >> 8}.{self.number & 255}"
        listener = _listener(SERVICE, address)
        kept: list[socket.socket | int] = [listener]
        for number in range(self.share.close_wait + self.share.established // 2):
            client = socket.create_connection((address, SERVICE))
            kept.append(listener.accept()[0])
            if number < self.share.close_wait:
                client.close()
            else:
                kept.append(client)
        nothing = os.open(os.devnull, os.O_RDONLY)
        kept.extend(os.dup(nothing) for _ in range(self.share.others))
        return kept


@contextlib.contextmanager
def children_to_end() -> Iterator[list[int]]:
    """Give a list for the numbers of children; whoever is in it at the end is killed."""
    children: list[int] = []
    try:
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def fork(work: Callable[[], None]) -> int:
    """Run a function in a child process that never outlives this one; return its number."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # Ctrl-C is for the parent, which kills its children.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kernel.die_with_parent(parent, signal.SIGKILL)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
