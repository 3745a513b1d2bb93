"""The other end of a Unix socket, as the kernel tells it."""

from __future__ import annotations

import os
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from twdiag.sources.live.processes.unix_peers import parse_answer, unix_peers


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_the_ends_of_a_pair_are_each_others_peers() -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_UNIX) as alone, socket.socket() as tcp:
        ends = [inode(end) for end in (one, other, alone, tcp)]
        assert unix_peers(ends) == {ends[0]: ends[1], ends[1]: ends[0]}


def answer(number: int, peer: int, name: bytes = b"") -> bytes:
    attributes = struct.pack("=HH", 4 + len(name), 0) + name + bytes(-len(name) % 4)
    attributes += struct.pack("=HHI", 8, 2, peer)
    message = struct.pack("=BBBBIII", 1, 1, 1, 0, number, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(message), 20, 0, 1, 0) + message


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1), st.binary(max_size=30))
def test_the_peer_is_read_whatever_stands_before_it(number: int, peer: int, name: bytes) -> None:
    assert parse_answer(answer(number, peer, name), number) == peer
    assert parse_answer(answer(number, peer, name), number ^ 1) is None
    assert parse_answer(answer(number, 0, name), number) is None


@given(st.binary(max_size=80), st.integers(0, 60))
def test_no_bytes_break_it(raw: bytes, cut: int) -> None:
    whole = answer(7, 8)
    for data in (raw, whole[:32] + raw, whole[:cut]):
        assert parse_answer(data, 7) in (None, 8) or data != whole
