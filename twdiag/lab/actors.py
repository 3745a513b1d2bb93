"""The programs that scenarios are played with, and what they can do with their sockets."""

from __future__ import annotations

import ctypes
import resource
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar, cast

from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.stage import DEADLINE, LabError
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twdiag.lab.stage import Intercom, Stage

P = ParamSpec("P")
R = TypeVar("R")

Instant = tuple[float, float]
"""The same instant by time.monotonic(), which all processes share, and by time.time()."""

HERE: Final = "127.0.0.1"
PORT: Final = 8080
REQUEST: Final = b"GET / HTTP/1.1\r\n\r\n"
RESPONSE: Final = b"HTTP/1.1 204 No Content\r\n\r\n"

# Fits the accept queue of every kernel: net.core.somaxconn was 128 before Linux 5.4.
_BATCH: Final = 100

_SO_ATTACH_FILTER: Final = 26  # include/uapi/asm-generic/socket.h
_SO_DETACH_FILTER: Final = 27
# include/uapi/linux/filter.h: struct sock_filter with BPF_RET | BPF_K and 0, "keep no byte".
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
_ABORT: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


@dataclass
class Sockets:
    """What a program holds."""

    listening: list[socket.socket] = field(default_factory=list)
    connected: list[socket.socket] = field(default_factory=list)


class Program:
    """A process on the stage that does with its sockets what it is told."""

    def __init__(self, stage: Stage, name: str, *, peer: bool = False) -> None:
        self._actor = stage.spawn(name, _obey, peer=peer)

    def do(
        self, deed: Callable[Concatenate[Sockets, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Let the program do something and return what came of it once it is done."""
        self._actor.say((deed, args, kwargs))
        return cast("R", self._actor.hear())

    def leave(self) -> None:
        """Let the program end; the kernel closes its sockets."""
        self._actor.leave()


def _obey(line: Intercom) -> None:
    sockets = Sockets()
    while True:
        try:
            deed, args, kwargs = line.hear(None)
        except LabError:
            return
        line.say(deed(sockets, *args, **kwargs))


# Deeds: what a program does.


def listen(
    sockets: Sockets,
    address: str = HERE,
    port: int = PORT,
    *,
    backlog: int = 128,
    shared: bool = False,
) -> None:
    """Listen on an address; `::` takes IPv4 too; `shared` sets SO_REUSEPORT."""
    listener = socket.socket(_family(address))
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
    listener.bind((address, port))
    listener.listen(backlog)
    listener.setblocking(False)
    sockets.listening.append(listener)


def stop_listening(sockets: Sockets) -> None:
    """Close the listeners and keep the connections, as a worker does when it is replaced."""
    for listener in sockets.listening:
        listener.close()
    sockets.listening.clear()


def connect(
    sockets: Sockets,
    count: int,
    address: str = HERE,
    port: int = PORT,
    *,
    source: tuple[str, int] | None = None,
) -> None:
    """Open connections; `source` binds each one first."""
    for _ in range(count):
        client = socket.socket(_family(address))
        client.settimeout(DEADLINE)
        if source is not None:
            client.bind(source)
        client.connect((address, port))
        sockets.connected.append(client)


def call_out(sockets: Sockets, count: int, address: str, port: int = PORT) -> None:
    """Begin to open connections and do not wait for an answer."""
    for _ in range(count):
        client = socket.socket(_family(address))
        client.setblocking(False)
        client.connect_ex((address, port))
        sockets.connected.append(client)


def accept(sockets: Sockets, count: int) -> None:
    """Accept connections of all listeners until there are as many as wanted."""
    poll = select.poll()
    for listener in sockets.listening:
        poll.register(listener, select.POLLIN)
    deadline = time.monotonic() + DEADLINE
    while (count := count - accept_waiting(sockets, count)) > 0:
        if time.monotonic() > deadline:
            raise LabError(f"{count} clients did not come")
        poll.poll(100)


def accept_waiting(sockets: Sockets, most: int = _BATCH) -> int:
    """Accept the connections that wait, and return how many."""
    before = len(sockets.connected)
    for listener in sockets.listening:
        try:
            while len(sockets.connected) - before < most:
                connection, _ = listener.accept()
                connection.settimeout(DEADLINE)
                sockets.connected.append(connection)
        except BlockingIOError:
            continue
    return len(sockets.connected) - before


def send(sockets: Sockets, message: bytes) -> None:
    """Send a message on every connection."""
    for connection in sockets.connected:
        connection.sendall(message)


def fill(sockets: Sockets) -> None:
    """Send on every connection until its peer, which does not read, has no room for more."""
    deadline = time.monotonic() + DEADLINE
    for connection in sockets.connected:
        connection.setblocking(False)
        while not _probes(connection):
            if time.monotonic() > deadline:
                raise LabError("the peer goes on reading")
            try:
                connection.send(bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.01)


def receive(sockets: Sockets, message: bytes) -> None:
    """Read this message, and nothing behind it, from every connection."""
    for connection in sockets.connected:
        got = connection.recv(len(message), socket.MSG_WAITALL)
        if got != message:
            raise LabError(f"received {got!r} instead of {message!r}")


def drain(sockets: Sockets) -> None:
    """Read every connection up to the end that the other side's FIN marks."""
    for connection in sockets.connected:
        while connection.recv(1 << 16):
            pass


def shut(sockets: Sockets, count: int | None = None) -> None:
    """Half-close the oldest connections, or all: send the FIN and keep the sockets."""
    for connection in sockets.connected[:count]:
        connection.shutdown(socket.SHUT_WR)


def close(sockets: Sockets, count: int | None = None, *, last_words: bytes = b"") -> list[Instant]:
    """Close the oldest connections, or all, and return when; some last words may go before."""
    moments = []
    for connection in sockets.connected[:count]:
        if last_words:
            connection.sendall(last_words)
        connection.close()
        moments.append((time.monotonic(), time.time()))
    del sockets.connected[:count]
    return moments


def await_end(sockets: Sockets, count: int | None = None) -> None:
    """Read the end of the oldest connections, or all, and let the kernel acknowledge it now."""
    for connection in sockets.connected[:count]:
        if connection.recv(1):
            raise LabError("received data instead of the end")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def await_acknowledgement(sockets: Sockets, count: int | None = None) -> None:
    """Wait until the peer's kernel has acknowledged the FIN of the oldest connections, or all."""
    deadline = time.monotonic() + DEADLINE
    for connection in sockets.connected[:count]:
        while _state(connection) == State.FIN_WAIT1:
            if time.monotonic() > deadline:
                raise LabError("the peer does not acknowledge the FIN")
            time.sleep(0.001)


def abort(sockets: Sockets) -> None:
    """Close every connection with a RST in place of the FIN (SO_LINGER 0)."""
    for connection in sockets.connected:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    close(sockets)


def turn_deaf(sockets: Sockets) -> None:
    """Let the kernel drop whatever arrives for any of the sockets, as a firewall would.

    Segments for an accepted connection and SYNs for a listener alike: tcp_v4_rcv() asks the filter
    of the socket that a segment is for.
    """
    program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    # struct sock_fprog: number of instructions, pointer to them.
    option = struct.pack("HP", 1, ctypes.addressof(program))
    for endpoint in sockets.listening + sockets.connected:
        endpoint.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


def hear_again(sockets: Sockets) -> None:
    """Undo turn_deaf."""
    for endpoint in sockets.listening + sockets.connected:
        endpoint.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def end_with_reset(sockets: Sockets) -> None:
    """Let every connection end with a RST, however its process ends.

    Without it the FINs of both ends would go unanswered for minutes after the play.
    """
    for connection in sockets.connected:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)


def limit_descriptors(_: Sockets, most: int) -> None:
    """Set the soft RLIMIT_NOFILE."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


def _state(connection: socket.socket) -> int:
    """Return the TCP state, the first byte of struct tcp_info."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _probes(connection: socket.socket) -> int:
    """Return how often the peer was asked for room, the fourth byte of struct tcp_info."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)[3]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# What several scenarios have in common.


def meet(
    client: Program,
    server: Program,
    count: int,
    address: str = HERE,
    port: int = PORT,
    *,
    source: tuple[str, int] | None = None,
) -> None:
    """Open connections that the server accepts."""
    for done in range(0, count, _BATCH):
        batch = min(_BATCH, count - done)
        client.do(connect, batch, address, port, source=source)
        server.do(accept, batch)


def converse(client: Program, server: Program) -> None:
    """Exchange a request and a response on every connection."""
    client.do(send, REQUEST)
    server.do(receive, REQUEST)
    server.do(send, RESPONSE)
    client.do(receive, RESPONSE)


def close_first(closer: Program, other: Program, count: int | None = None) -> list[Instant]:
    """Close connections at one program first and then at the other; return when they were over.

    Each segment of the close is awaited before the next is caused.  FINs that cross would leave a
    TIME_WAIT at both ends.  An ACK that a FIN overtakes would leave none: the TIME_WAIT answers it
    with an ACK, and the other end, closed by now, kills it with a RST (RFC 1337).
    """
    closer.do(shut, count)
    other.do(await_end, count)
    closer.do(await_acknowledgement, count)
    closer.do(close, count)
    return other.do(close, count)


def leave_half_closed(stage: Stage, name: str, count: int, fd_limit: int | None = None) -> None:
    """Let a program read the connections of departed clients to the end and keep the sockets.

    The clients live in the peer namespace: their FIN_WAIT2 would be a finding of its own.
    """
    stage.peer()
    program, client = Program(stage, name), Program(stage, "client", peer=True)
    if fd_limit is not None:
        program.do(limit_descriptors, fd_limit)
    program.do(listen, MAIN_ADDRESS)
    meet(client, program, count, MAIN_ADDRESS)
    converse(client, program)
    client.do(close)
    program.do(drain)
    stage.wait_for({State.CLOSE_WAIT: count})


def churn_on_few_ports(stage: Stage) -> None:
    """Open 90 connections from a range of 100 ports and close them at the client first.

    All are open before the first is closed, so that no port can serve twice.
    """
    stage.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(listen)
    meet(client, server, 90)
    close_first(client, server)
    stage.wait_for({State.TIME_WAIT: 90})


def accept_among(programs: Sequence[Program], count: int) -> None:
    """Accept connections that the kernel spread over several programs."""
    deadline = time.monotonic() + DEADLINE
    while (count := count - sum(program.do(accept_waiting) for program in programs)) > 0:
        if time.monotonic() > deadline:
            raise LabError(f"{count} clients did not come")
        time.sleep(0.01)


def ticks(seconds: float, each: float) -> Iterator[None]:
    """Yield once every `each` seconds, without drift, and end when all of them have passed."""
    start = time.monotonic()
    for tick in range(1, round(seconds / each) + 1):
        yield
        time.sleep(max(0.0, start + tick * each - time.monotonic()))


def in_thread(work: Callable[..., object], *args: object) -> None:
    """Let an actor do something for as long as it lives."""
    threading.Thread(target=work, args=args, daemon=True).start()
