"""Connections and listeners that were handed on: nobody inherited, forgot or left them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.sources.live.processes.blocked import blocked, states, wait_until
from twdiag.engine.waits import WaitsQuestion, host_names, look_closer
from twdiag.sources.live.sockets.netlink import find_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twdiag.engine.waits import WaitsAnswer
    from twdiag.model.sockets import Socket

CLIENTS = 2
SHORT_WHILE = 0.02  # processes that start within the same 10 ms have the same start time


class Served(NamedTuple):
    """A listener, connections to it, and a pair of Unix sockets to hand them on through."""

    listener: socket.socket
    clients: tuple[socket.socket, ...]
    connections: tuple[socket.socket, ...]
    pair: tuple[socket.socket, socket.socket]

    def rows(self) -> dict[int, Socket]:
        return find_sockets({inode(one) for one in self.connections}, seconds=10.0)

    def keep(self, *kept: socket.socket) -> None:
        """Let this process have no other of them than these, and its clients."""
        for one in (self.listener, *self.connections, *self.pair):
            if one not in kept:
                one.close()


@pytest.fixture
def served() -> Iterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0))
    clients = tuple(socket.create_connection(listener.getsockname()) for _ in range(CLIENTS))
    accepted = tuple(listener.accept()[0] for _ in clients)
    made = Served(listener, clients, accepted, socket.socketpair())
    yield made
    made.keep()
    for client in clients:
        client.close()


@pytest.mark.parametrize("paired", [True, False])
def test_who_is_handed_connections_is_no_old_worker(served: Served, *, paired: bool) -> None:
    listening, worker = keeper(served, served.listener, *served.pair[:paired]), served.connections
    rows, door = served.rows(), inode(served.listener)
    with blocked(keeper(served, *worker, *served.pair[1 : 1 + paired])) as old:
        time.sleep(SHORT_WHILE)
        with blocked(listening) as heir:
            served.keep()
            answer = ask(old, rows, door)
    assert (answer.replaced and answer.replaced.heir) == (None if paired else heir)


@pytest.mark.parametrize("paired", [True, False])
def test_who_is_handed_connections_by_its_parent_inherited_none(
    served: Served, *, paired: bool
) -> None:
    rows, door = served.rows(), inode(served.listener)
    with blocked(keeper(served, *served.connections, *served.pair[1 : 1 + paired])) as worker:
        served.keep(served.listener, *served.pair[:paired])
        answer = ask(worker, rows, door)
    assert (answer.child and answer.child.child) == (None if paired else worker)


def test_who_was_handed_a_listener_and_is_no_relative_accepts(served: Served) -> None:
    door = find_sockets({inode(served.listener)}, seconds=10.0)
    asked = {1: WaitsQuestion((os.getpid(),), door)}
    with stranger(served.listener.accept) as pid:
        told = look_closer(asked, host_names({}), seconds=10.0)[0][1].waits
        assert (told.watched, told.conclusion) == (1, None)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: states(pid) == ["T"])
        told = look_closer(asked, host_names({}), seconds=10.0)[0][1].waits
        assert told.watched == 0


def keeper(served: Served, *kept: socket.socket) -> Callable[[], None]:
    """Return what sleeps and has no other sockets than these."""

    def keep() -> None:
        served.keep(*kept)
        for client in served.clients:
            client.close()
        time.sleep(600)

    return keep


@contextlib.contextmanager
def stranger(work: Callable[[], object]) -> Iterator[int]:
    """Yield a process that does something and has lost its parent, once it is asleep."""
    reading, writing = os.pipe()
    starter = os.fork()
    if not starter:
        pid = os.fork()
        if pid:
            os.write(writing, b"%d" % pid)
        else:
            signal.alarm(60)
            work()
        os._exit(0)
    os.waitpid(starter, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    try:
        wait_until(lambda: states(pid) == ["S"])
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def ask(pid: int, rows: dict[int, Socket], listener: int) -> WaitsAnswer:
    """Return what is told of connections of this listener that a process holds."""
    asked = {1: WaitsQuestion((pid,), rows, frozenset({listener}))}
    return look_closer(asked, host_names({}), seconds=10.0)[0][1]
