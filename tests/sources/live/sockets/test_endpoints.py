"""Sockets looked up by inode, against what the sockets say of themselves."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import can_filter, forbid_netlink, in_child
from twdiag.sources.live.sockets.endpoints import (
    Endpoint,
    parse_datagram,
    parse_error,
    parse_row,
    read_endpoints,
)
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


def test_what_takes_too_long_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert read_endpoints({inode(listener)}, seconds=-1.0) == {}


@can_filter
def test_a_look_that_is_refused_finds_nothing() -> None:
    def refused() -> dict[int, Endpoint]:
        forbid_netlink(errno.EPERM)
        return read_endpoints({1}, seconds=10.0)

    assert in_child(refused) == {}


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 0, 1, 0) + payload


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (message(3, struct.pack("=i", 0)), 0),
        (message(3, b""), 0),
        (message(3, struct.pack("=i", -errno.ENOENT)), errno.ENOENT),
        (message(2, struct.pack("=i", -errno.EPERM) + bytes(16)), errno.EPERM),
        (message(2, struct.pack("=i", 0) + bytes(16)), errno.EIO),
        (message(20, bytes(72)), 0),
    ],
)
def test_the_end_of_a_dump_tells_whether_it_was_refused(data: bytes, number: int) -> None:
    assert parse_error(data) == number
    assert parse_error(message(20, bytes(72)) + data) == number


@given(st.binary(max_size=400))
def test_any_datagram_ends_with_a_number_or_none(data: bytes) -> None:
    assert parse_error(data) >= 0


@given(st.binary(max_size=400))
def test_any_datagram(data: bytes) -> None:
    _, rows = parse_datagram(data)
    assert len(rows) <= len(data) // 72


@given(st.binary(max_size=100))
def test_any_row(data: bytes) -> None:
    assert parse_row(data) is None or len(data) >= 72
