"""The ways a TCP connection can end, each made some times over with real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.closes import ClosedBy, How, Why

if TYPE_CHECKING:
    from collections.abc import Callable

HOST: Final = "127.0.0.1"
TIMES: Final = 7
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0: keep no byte
_ATTACH, _DETACH = 26, 27  # SO_ATTACH_FILTER, SO_DETACH_FILTER
_TCP_USER_TIMEOUT: Final = 18


class Told(NamedTuple):
    """What should be told of one end."""

    first: ClosedBy | None
    how: How | None
    why: Why | None


class Ending(NamedTuple):
    """A way to end connections to a port of its own, and what each end should be told of.

    `traced` is what trace events show, `inferred` what is left to see without them; None where an
    end has no socket, or where its own end is beside the point.
    """

    name: str
    port: int
    make: Callable[[int], None]
    traced: tuple[Told | None, Told | None]
    inferred: tuple[Told | None, Told | None]
    at_exit: bool = False
    times: int = TIMES


def deafen(end: socket.socket, *, hear: bool = False) -> None:
    """Let an end receive nothing any more, or everything again."""
    import ctypes

    if hear:
        end.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
        return
    code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("HP", 1, ctypes.addressof(code))
    end.setsockopt(socket.SOL_SOCKET, _ATTACH, program)


def listen(port: int) -> socket.socket:
    """Return a listener."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(16)
    return listener


def call(port: int) -> socket.socket:
    """Return a new connection."""
    client = socket.socket()
    client.connect((HOST, port))  # create_connection() would look for codecs, as nobody in vain
    return client


def connected(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Return (client's end, server's end) of a new connection."""
    client = call(listener.getsockname()[1])
    server, _ = listener.accept()
    return client, server


def each(port: int, deed: Callable[[socket.socket, socket.socket], None]) -> None:
    """Do something with as many new connections as are made each way."""
    with listen(port) as listener:
        for _ in range(TIMES):
            client, server = connected(listener)
            deed(client, server)
            client.close()
            server.close()


def acked(end: socket.socket) -> None:
    """Wait until the peer's kernel has acknowledged all of an end, its FIN too."""
    for _ in range(2000):
        info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        if info[0] not in (1, 4):  # ESTABLISHED, FIN_WAIT1
            return
        time.sleep(0.001)


def arrived(end: socket.socket, number: int) -> None:
    """Wait until so many bytes are there to be read."""
    end.recv(number, socket.MSG_PEEK | socket.MSG_WAITALL)


def server_closes(port: int) -> None:
    """Let the server close, and the client after it."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        client.send(b"question")
        arrived(server, 8)
        server.recv(100)
        server.send(b"answer")
        server.close()
        while client.recv(100):
            pass

    each(port, deed)


def client_closes(port: int) -> None:
    """Let the client close, and the server after it."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        client.close()
        server.recv(1)

    each(port, deed)


def shut_down(port: int) -> None:
    """Let the server shut its end down, and close it last."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        server.shutdown(socket.SHUT_RDWR)
        client.recv(1)
        client.close()
        time.sleep(0.01)

    each(port, deed)


def half_close(port: int) -> None:
    """Let the client end its stream, the server answer and close, the client close."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        client.shutdown(socket.SHUT_WR)
        server.recv(1)
        server.send(b"answer")
        server.close()
        while client.recv(100):
            pass
        time.sleep(0.01)

    each(port, deed)


def linger_zero(port: int) -> None:
    """Let the server abort."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()

    each(port, deed)


def unread(port: int) -> None:
    """Let the server close with data unread."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        client.send(b"x" * 10)
        arrived(server, 10)
        server.close()

    each(port, deed)


def unread_after_fin(port: int) -> None:
    """Let the client send and close, and the server close with the data unread."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        client.send(b"x" * 10)
        client.shutdown(socket.SHUT_WR)
        arrived(server, 10)
        acked(client)
        server.close()

    each(port, deed)


def _in_child(client: socket.socket, server: socket.socket, *, kill: bool) -> None:
    """Leave the server's end to a child alone, which then ends."""
    go, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            client.close()
            os.read(go, 1)
            if kill:
                time.sleep(60)
        os._exit(0)
    server.close()
    os.write(tell, b"x")
    if kill:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(go)
    os.close(tell)


def exit_(port: int) -> None:
    """Let the process that has the server's end exit."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        _in_child(client, server, kill=False)
        client.recv(1)

    each(port, deed)


def exit_unread(port: int) -> None:
    """Let the process that has the server's end exit with data unread."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        client.send(b"x" * 10)
        arrived(server, 10)
        _in_child(client, server, kill=False)

    each(port, deed)


def kill(port: int) -> None:
    """Kill the process that has the server's end."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        _in_child(client, server, kill=True)
        client.recv(1)

    each(port, deed)


def both_at_once(port: int) -> None:
    """Let the FINs of both ends cross: neither hears the other before both have closed."""

    def deed(client: socket.socket, server: socket.socket) -> None:
        for end in (client, server):
            deafen(end)
        for end in (client, server):
            end.shutdown(socket.SHUT_RDWR)
        for end in (client, server):
            deafen(end, hear=True)
        for end in (client, server):
            acked(end)
        time.sleep(0.3)  # the repeated FINs

    each(port, deed)


def keepalive(port: int) -> None:
    """Let the client ask for life where there is none."""
    with listen(port) as listener:
        pairs = [connected(listener) for _ in range(3)]
        for client, server in pairs:
            deafen(server)
            for option, value in ((4, 1), (5, 1), (6, 1)):  # KEEPIDLE, KEEPINTVL, KEEPCNT
                client.setsockopt(socket.IPPROTO_TCP, option, value)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for client, server in pairs:
            with contextlib.suppress(TimeoutError):
                client.recv(1)
            client.close()
            deafen(server, hear=True)
            server.close()


def vanished(port: int) -> None:
    """Let the client send to a peer that is not there any more."""
    with listen(port) as listener:
        pairs = [connected(listener) for _ in range(3)]
        for client, server in pairs:
            deafen(server)
            client.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, 1000)
            client.send(b"anybody?")
        for client, server in pairs:
            with contextlib.suppress(TimeoutError):
                client.recv(1)
            client.close()
            deafen(server, hear=True)
            server.close()


def refused(port: int) -> None:
    """Connect to a port on which nobody listens."""
    for _ in range(TIMES):
        with socket.socket() as client, contextlib.suppress(ConnectionRefusedError):
            client.connect((HOST, port))


def never_accepted(port: int) -> None:
    """Let the listener close before it accepts."""
    for _ in range(TIMES):
        with listen(port):
            client = call(port)
        with contextlib.suppress(ConnectionResetError):
            client.recv(1)
        client.close()


def syn_unanswered(port: int) -> None:
    """Connect to a listener that hears nothing."""
    with listen(port) as listener:
        deafen(listener)
        clients = [socket.socket() for _ in range(3)]
        threads = []
        for client in clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)

            def connect(client: socket.socket = client) -> None:
                with contextlib.suppress(TimeoutError):
                    client.connect((HOST, port))

            threads.append(threading.Thread(target=connect))
            threads[-1].start()
        for thread, client in zip(threads, clients, strict=True):
            thread.join()
            client.close()


_FIN_HERE: Final = Told(ClosedBy.HERE, How.FIN, Why.CLOSE)
_FIN_PEER: Final = Told(ClosedBy.PEER, How.FIN, Why.CLOSE)
_SHUT_HERE: Final = Told(ClosedBy.HERE, How.FIN, Why.SHUTDOWN)
_RESET: Final = Told(ClosedBy.PEER, How.RST, Why.RESET)
_UNREAD: Final = Told(ClosedBy.HERE, How.RST, Why.UNREAD)
_MAYBE_UNREAD: Final = Told(None, How.RST, Why.UNREAD)
_HERE: Final = Told(ClosedBy.HERE, How.FIN, None)
_PEER: Final = Told(ClosedBy.PEER, How.FIN, None)
_BOTH: Final = Told(ClosedBy.BOTH, How.FIN, None)
_LOST: Final = Told(ClosedBy.HERE, How.TIMEOUT, Why.NO_ANSWER)
_DEAD: Final = Told(ClosedBy.HERE, How.TIMEOUT, Why.KEEPALIVE)

# (client's end, server's end).
ENDINGS: Final = (
    Ending("keepalive timeout", 7010, keepalive, (_DEAD, None), (_DEAD, None), times=3),
    Ending("peer vanished", 7011, vanished, (_LOST, None), (_LOST, None), times=3),
    Ending(
        "SYN unanswered",
        7012,
        syn_unanswered,
        (Told(ClosedBy.HERE, How.TIMEOUT, Why.SYN_UNANSWERED), None),
        (None, None),  # connect() has wiped the port
        times=3,
    ),
    Ending("server closes", 7013, server_closes, (_FIN_PEER, _FIN_HERE), (_PEER, _HERE)),
    Ending("client closes", 7014, client_closes, (_FIN_HERE, _FIN_PEER), (_HERE, _PEER)),
    Ending("shutdown", 7015, shut_down, (_FIN_PEER, _SHUT_HERE), (_PEER, _HERE)),
    Ending("half-close", 7016, half_close, (_SHUT_HERE, _FIN_PEER), (_HERE, _PEER)),
    Ending(
        "SO_LINGER 0",
        7017,
        linger_zero,
        (_RESET, Told(ClosedBy.HERE, How.RST, Why.LINGER)),
        (_RESET, Told(ClosedBy.HERE, How.RST, Why.LINGER)),
    ),
    Ending("unread data", 7018, unread, (_RESET, _UNREAD), (_RESET, _MAYBE_UNREAD)),
    Ending(
        "unread data after a FIN",
        7019,
        unread_after_fin,
        (Told(ClosedBy.HERE, How.FIN_RST, Why.RESET), Told(ClosedBy.PEER, How.FIN_RST, Why.UNREAD)),
        (None, _MAYBE_UNREAD),
    ),
    Ending(
        "exit",
        7020,
        exit_,
        (_FIN_PEER, Told(ClosedBy.HERE, How.FIN, Why.EXIT)),
        (_PEER, _HERE),
        at_exit=True,
    ),
    Ending(
        "exit with unread data",
        7021,
        exit_unread,
        (_RESET, _UNREAD),
        (_RESET, _MAYBE_UNREAD),
        at_exit=True,
    ),
    Ending(
        "SIGKILL",
        7022,
        kill,
        (_FIN_PEER, Told(ClosedBy.HERE, How.FIN, Why.KILLED)),
        (_PEER, _HERE),
        at_exit=True,
    ),
    Ending(
        "both at once",
        7023,
        both_at_once,
        (Told(ClosedBy.BOTH, How.FIN, Why.SHUTDOWN), Told(ClosedBy.BOTH, How.FIN, Why.SHUTDOWN)),
        (_BOTH, _BOTH),
    ),
    Ending(
        "refused", 7024, refused, (Told(ClosedBy.PEER, How.RST, Why.REFUSED), None), (None, None)
    ),
    Ending(
        "never accepted",
        7025,
        never_accepted,
        (_RESET, Told(ClosedBy.HERE, How.RST, Why.NEVER_ACCEPTED)),
        (_RESET, Told(ClosedBy.HERE, How.RST, Why.ABORT)),
    ),
)


def make_all() -> None:
    """Make every ending, the slow ones beside the others; each in a process of its own."""
    children = []
    for ending in ENDINGS:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ending.make(ending.port)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        if ending.times == TIMES:
            _, status = os.waitpid(child, 0)
            assert status == 0, ending.name
        else:
            children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0
