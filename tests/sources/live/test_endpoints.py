"""Sockets looked up by inode, against what the sockets say of themselves."""

from __future__ import annotations

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from twdiag.sources.live.endpoints import parse_datagram, parse_row, read_endpoints
from twdiag.tcp import State


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_the_ends_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            server.sendall(b"x" * 23)
            found = read_endpoints({inode(client), inode(listener), 1}, seconds=10.0)
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
            row = read_endpoints({inode(server)}, seconds=10.0)[inode(server)]
            assert (row.local_address, row.remote_address) == ("127.0.0.1", "127.0.0.1")
            assert row.remote_port == client.getsockname()[1]


def test_no_inodes_cost_no_dump() -> None:
    assert read_endpoints([]) == {}
    assert read_endpoints([0]) == {}


@given(st.binary(max_size=400))
def test_any_datagram(data: bytes) -> None:
    _, rows = parse_datagram(data)
    assert len(rows) <= len(data) // 72


@given(st.binary(max_size=100))
def test_any_row(data: bytes) -> None:
    assert parse_row(data) is None or len(data) >= 72
