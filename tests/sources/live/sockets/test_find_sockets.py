"""Sockets looked up by inode, against what the sockets say of themselves."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from tests.sources.live.confinement import can_filter, forbid_netlink, in_child
from twdiag.sources.live.sockets.netlink import find_sockets
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.model.sockets import Socket


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_the_ends_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            server.sendall(b"x" * 23)
            found = find_sockets({inode(client), inode(listener), 1}, seconds=10.0)
            row = found[inode(client)]
            assert row.state is State.ESTABLISHED
            assert (row.local_address, row.local_port) == client.getsockname()
            assert (row.remote_address, row.remote_port) == client.getpeername()
            assert row.recv_q == 23
            assert found[inode(listener)].state is State.LISTEN
            assert found.keys() == {inode(client), inode(listener)}


def test_an_ipv4_client_of_a_dual_stack_listener_is_shown_as_ipv4() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen()
        client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        with client, server:
            row = find_sockets({inode(server)}, seconds=10.0)[inode(server)]
            assert (row.local_address, row.remote_address) == ("127.0.0.1", "127.0.0.1")
            assert row.remote_port == client.getsockname()[1]


def test_no_inodes_cost_no_dump() -> None:
    assert find_sockets([]) == {}
    assert find_sockets([0]) == {}


def test_what_takes_too_long_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert find_sockets({inode(listener)}, seconds=-1.0) == {}


@can_filter
def test_a_look_that_is_refused_finds_nothing() -> None:
    def refused() -> dict[int, Socket]:
        forbid_netlink(errno.EPERM)
        return find_sockets({1}, seconds=10.0)

    assert in_child(refused) == {}
