"""The rows of one port: what is sent to the kernel, and whatever it answers."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import can_filter, forbid_netlink, in_child
from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live.sockets.one_port import (
    PortRow,
    decode,
    encode_request,
    read_port,
    shows_bound,
)
from twdiag.tcp import State

HEADER = struct.Struct("=IHHII")


def message(kind: int, body: bytes, seq: int = 2) -> bytes:
    raw = HEADER.pack(HEADER.size + len(body), kind, 2, seq, 0) + body
    return raw + bytes(-len(raw) % 4)


def row(
    family: int = 2,
    state: int = 10,
    source: bytes = b"\x7f\0\0\1",
    rest: bytes = b"",
    port: int = 80,
) -> bytes:
    ends = struct.pack("!HH", port, 4000) + source.ljust(16, b"\0") + bytes(16)
    numbers = struct.pack("=IQIIIII", 3, 77, 1000, 4, 5, 6, 7)
    return struct.pack("=BBBB", family, state, 0, 1) + ends + numbers + rest


DONE = message(3, struct.pack("=i", 0))


def test_a_row_is_understood() -> None:
    attribute = struct.pack("=HHBxxx", 5, 11, 1)
    rows, done = decode(message(20, row(10, 10, bytes(16), attribute)) + DONE, 2)
    assert done
    (one,) = rows
    assert one.v6only is True
    assert one.socket.state is State.LISTEN
    assert (one.socket.local_address, one.socket.local_port) == ("::", 80)
    assert one.socket[5:13] == (0, 1000, 1, 4, 5, 6, 7, 77)


def test_v4_mapped_addresses_are_ipv4_and_link_local_ones_keep_their_interface() -> None:
    mapped = bytes(10) + b"\xff\xff\x0a\0\0\1"
    local = b"\xfe\x80" + bytes(13) + b"\1"
    rows, done = decode(message(20, row(10, 1, mapped)) + message(20, row(10, 1, local)), 2)
    assert not done
    assert [one.socket.local_address for one in rows] == ["10.0.0.1", "fe80::1%3"]


def test_answers_to_an_earlier_request_are_passed_over() -> None:
    assert decode(message(20, row(), seq=1) + message(3, b"", seq=1), 2) == ([], False)


def test_a_refusal_is_an_error_and_never_an_empty_list() -> None:
    for kind in (2, 3):
        with pytest.raises(SourceRefused, match="No such file") as error:
            decode(message(kind, struct.pack("=i", -errno.ENOENT)), 2)
        assert "modprobe tcp_diag" in error.value.next_step


@pytest.mark.parametrize(
    "raw",
    [
        b"\0",
        HEADER.pack(8, 20, 0, 2, 0),
        HEADER.pack(99, 20, 0, 2, 0),
        message(20, row()[:-4]),
        message(20, row(state=14)),
        message(20, row(family=1)),
    ],
)
def test_bytes_that_make_no_sense_are_an_error(raw: bytes) -> None:
    with pytest.raises(SourceError):
        decode(raw, 2)


@given(st.binary(max_size=300) | st.builds(lambda b: message(20, row(rest=b)), st.binary()))
def test_whatever_comes_is_rows_or_an_error(raw: bytes) -> None:
    try:
        rows, _ = decode(raw, 2)
    except SourceError:
        return
    assert all(isinstance(one, PortRow) for one in rows)


@given(st.integers(0, 65535))
def test_the_request_asks_for_one_port_in_every_state(port: int) -> None:
    raw = encode_request(socket.AF_INET6, port, 9)
    assert struct.unpack_from("=I", raw)[0] == len(raw)
    assert raw.count(struct.pack("=H", port)) >= 2
    states = struct.unpack_from("=I", raw, 20)[0]
    assert states == sum(1 << state for state in range(1, 14))


@can_filter
def test_without_netlink_there_is_a_sentence_and_a_next_step() -> None:
    def look() -> tuple[str, str]:
        forbid_netlink(errno.EPERM)
        with pytest.raises(SourceRefused) as error:
            read_port(80)
        return error.value.what, error.value.next_step

    what, next_step = in_child(look)
    assert "Operation not permitted" in what
    assert "AF_NETLINK" in next_step


def test_a_listener_of_this_process_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (one,) = [r for r in read_port(server.getsockname()[1]) if r.socket.state is State.LISTEN]
    assert one.socket.local_address == "127.0.0.1"
    assert isinstance(shows_bound(), bool)
