"""What the threads of a server do in the scenarios about what a process waits for."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

from twdiag.lab import actors, kernel
from twdiag.lab.actors import HERE, REQUEST, Program, in_thread, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.stage import DEADLINE, LabError
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.lab.actors import Instant, Sockets
    from twdiag.lab.stage import Stage

DATABASE_PORT: Final = 5432
FD_SETSIZE: Final = 1024


def serve(stage: Stage, clients: int) -> tuple[Program, Program]:
    """Let a server accept some clients of the peer namespace; return (server, clients)."""
    stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client", peer=True)
    server.do(actors.listen, MAIN_ADDRESS)
    meet(client, server, clients, MAIN_ADDRESS)
    return server, client


def ask_and_go(stage: Stage, client: Program, clients: int) -> None:
    """Let clients send a request and close; wait until the server has a CLOSE_WAIT of each."""
    client.do(actors.close, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: clients})


def ask_database(sockets: Sockets, workers: int) -> None:
    """Let some threads send a query each and wait in recv() for the answer."""
    for _ in range(workers):
        database = socket.create_connection((HERE, DATABASE_PORT))
        database.sendall(REQUEST)
        in_thread(database.recv, 1)


def ask_database_in_loop(sockets: Sockets) -> None:
    """Send a query, and wait in an epoll loop for its answer and for every client."""
    database = socket.create_connection((HERE, DATABASE_PORT))
    database.sendall(REQUEST)
    in_thread(_loop, [database, *sockets.listening, *sockets.connected])


def watch_first(sockets: Sockets, count: int) -> None:
    """Wait in an epoll loop for the listeners and the oldest connections, not for the others."""
    in_thread(_loop, [*sockets.listening, *sockets.connected[:count]])


def open_descriptors(_: Sockets, count: int) -> None:
    """Open so many descriptors that stand for nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for _number in range(count - 1):
        os.dup(nothing)


def watch_by_select(sockets: Sockets) -> None:
    """Wait in select() for the listeners and the connections that it can watch."""
    within = [s for s in sockets.connected if s.fileno() < FD_SETSIZE]
    in_thread(select.select, [*sockets.listening, *within], [], [])


def _loop(endpoints: list[socket.socket]) -> None:
    """Wait for data, and close what has ended."""
    watched = {endpoint.fileno(): endpoint for endpoint in endpoints}
    with select.epoll() as poll:
        for number in watched:
            poll.register(number, select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                if not watched[number].recv(1 << 16):
                    poll.unregister(number)
                    watched[number].close()


def wait_for_lock(_: Sockets, workers: int) -> None:
    """Let some threads wait for a lock that is never released."""
    lock = threading.Lock()
    lock.acquire()
    for _number in range(workers):
        in_thread(lock.acquire)


def dispatch_to_idle_workers(sockets: Sockets, workers: int) -> None:
    """Let some threads wait for work, and a loop watch the listeners and all connections."""
    work: queue.Queue[object] = queue.Queue()
    for _ in range(workers):
        in_thread(work.get)
    watch_first(sockets, len(sockets.connected))


def close_all_but(sockets: Sockets, kept: int, *, last_words: bytes = b"") -> list[Instant]:
    """Close all connections but the oldest ones, and return when."""
    oldest, sockets.connected = sockets.connected[:kept], sockets.connected[kept:]
    moments = actors.close(sockets, last_words=last_words)
    sockets.connected = oldest
    return moments


def start_helper(sockets: Sockets, *, inheritable: bool) -> int:
    """Start another program that does nothing, with all connections or none; return its pid.

    It ends with this one.
    """
    for connection in sockets.connected:
        connection.set_inheritable(inheritable)
    parent = os.getpid()
    # Without the listener and the line to the director, whose other end waits for its end.
    helper = subprocess.Popen(
        ["sleep", "3600"],
        close_fds=False,
        preexec_fn=lambda: kernel.die_with_parent(parent, signal.SIGKILL),
    )
    return helper.pid


def halt(_: Sockets) -> None:
    """Stop this process, shortly after its answer to the director is out."""

    def stop() -> None:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGSTOP)

    in_thread(stop)


def wait_for_threads(stage: Stage, name: str, count: int) -> None:
    """Wait until a program has so many threads and all of them sleep."""

    def asleep(pid: int) -> bool:
        states = [_state(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")]
        return states == ["S"] * count

    _wait(stage, name, asleep)


def wait_for_state(stage: Stage, name: str, letter: str) -> None:
    """Wait until a program is in a state of /proc/PID/status."""
    _wait(stage, name, lambda pid: _state(pid, pid) == letter)


def _wait(stage: Stage, name: str, reached: Callable[[int], bool]) -> None:
    pid = next(actor.pid for actor in stage.actors if actor.name == name)
    deadline = time.monotonic() + DEADLINE
    while not reached(pid):
        if time.monotonic() > deadline:
            raise LabError(f"the process {name!r} does not come to rest")
        time.sleep(0.01)


def _state(pid: int, tid: int) -> str:
    with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()
