"""The decoder gives back every row of a dump however it is cut, and survives anything else."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live.sockets import inet_diag
from twdiag.sources.live.sockets.inet_diag import Dump, Interrupted
from twdiag.tcp import State

from .wire import (
    BY_FAMILY,
    DONE,
    DUMP_INTR,
    ERROR,
    INFO,
    MANY,
    MARK,
    MULTI,
    NOOP,
    OVERRUN,
    SKV6ONLY,
    Row,
    done,
    dumps,
    error,
    message,
    seen_in,
)

if TYPE_CHECKING:
    from twdiag.model.sockets import Socket

V6 = socket.AF_INET6
ANY6 = bytes(16)
MAPPED = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 9])


def feed_all(dump: Dump, *datagrams: bytes) -> list[Socket]:
    """Return the sockets of these datagrams."""
    return [s for datagram in datagrams for block in dump.feed(datagram) for s in block.sockets()]


def fed(*datagrams: bytes) -> list[Socket]:
    """Return the sockets of a dump, ended where the datagrams do not end it themselves."""
    dump = Dump(1)
    sockets = feed_all(dump, *datagrams)
    if not dump.done:
        sockets += feed_all(dump, done())
    return sockets


def interrupted(*datagrams: bytes) -> bool:
    dump = Dump(1)
    feed_all(dump, *datagrams)
    return dump.interrupted


def socket_row(row: Row, **head: int) -> bytes:
    return message(BY_FAMILY, row.body, **head)


@MANY
@given(dumps(), st.booleans(), st.sampled_from([1, 400, 1 << 17]))
def test_every_row_comes_out_however_the_dump_is_cut(
    dump: tuple[list[Row], list[bytes]], joined: bool, batch: int
) -> None:
    wanted, datagrams = dump
    if joined:
        datagrams = [b"".join(datagrams)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inet_diag, "_BATCH_BYTES", batch)
        found = fed(*datagrams)
    assert Counter(map(seen_in, found)) == Counter(row.expected() for row in wanted)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ((), 88),
        (((MARK, bytes(4)),), 96),
        (((8, b"\0"), (MARK, bytes(4)), (21, bytes(8)), (22, bytes(2))), 124),
        (((8, b"\0"), (MARK, bytes(4)), (21, bytes(8)), (22, bytes(2)), (SKV6ONLY, b"\1")), 132),
        (((8, b"\0"), (MARK, bytes(4)), (21, bytes(8)), (22, bytes(2)), (INFO, bytes(280))), 408),
    ],
)
def test_the_row_sizes_of_linux(attributes: tuple[tuple[int, bytes], ...], size: int) -> None:
    row = Row(attributes=attributes)
    assert len(socket_row(row)) == size
    found = fed(3 * socket_row(row) + 2 * socket_row(Row(state=6)) + socket_row(row))
    assert Counter(s.state for s in found) == {1: 4, 6: 2}


def test_a_run_ends_where_another_dump_s_row_stands() -> None:
    mine, other = socket_row(Row(sport=1)), socket_row(Row(sport=2), seq=9)
    for before in (1, 2, 7, 8, 9, 40):
        found = fed(before * mine + other + 50 * mine + done())
        assert [s.local_port for s in found] == [1] * (before + 50)


def test_a_request_socket_is_in_syn_recv() -> None:
    assert [row.state for row in fed(socket_row(Row(state=12)))] == [State.SYN_RECV]


@pytest.mark.parametrize("state", [7, 13])
def test_a_bound_socket_is_closed_and_bound(state: int) -> None:
    (found,) = fed(socket_row(Row(state=state, dport=0)))
    assert found.bound
    assert found.state is State.CLOSE


def test_addresses_read_as_people_write_them() -> None:
    table = fed(
        socket_row(Row(V6, 10, ANY6, 80, ANY6, 0)),
        socket_row(Row(V6, 1, MAPPED, 80, MAPPED, 5000)),
        socket_row(Row(V6, 1, b"\xfe\x80" + bytes(13) + b"\1", 80, ANY6, 1, interface=3)),
        socket_row(Row(V6, 1, b"\x20\x01\x0d\xb8" + bytes(11) + b"\1", 80, ANY6, 1, interface=3)),
    )
    assert [row.local_address for row in table] == ["::", "10.0.0.9", "fe80::1%3", "2001:db8::1"]


def test_thousands_of_rows_of_mixed_kinds_all_arrive() -> None:
    kinds = [
        Row(state=6, attributes=((MARK, bytes(4)),)),
        Row(V6, 6, MAPPED, 80, MAPPED, 9, attributes=((MARK, bytes(4)),)),
        Row(state=1),
    ]
    datagram = b"".join(socket_row(row) for row in kinds)
    assert Counter(map(seen_in, fed(*[datagram] * 3000))) == {row.expected(): 3000 for row in kinds}


def test_mapped_and_other_addresses_mix_in_one_run() -> None:
    ends = [MAPPED, ANY6, MAPPED, b"\x20" + bytes(15)]
    table = fed(b"".join(socket_row(Row(V6, 1, end, 1, MAPPED, 2)) for end in ends))
    assert [row.local_address for row in table] == ["10.0.0.9", "::", "10.0.0.9", "2000::"]


@pytest.mark.parametrize("place", [0, 7, 8, 9, 10, 11])
def test_an_address_that_is_nearly_a_mapped_one_is_none(place: int) -> None:
    end = bytearray(MAPPED)
    end[place] ^= 0x40
    row = Row(V6, 1, bytes(end), 1, MAPPED, 2)
    assert list(map(seen_in, fed(3 * socket_row(row)))) == 3 * [row.expected()]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EBUSY])
@pytest.mark.parametrize("end", [done, error])
def test_a_refusal_is_an_error_and_never_an_empty_table(number: int, end: object) -> None:
    with pytest.raises(SourceRefused, match=errno.errorcode[number]) as refusal:
        fed(socket_row(Row()), end(number))  # type: ignore[operator]
    assert refusal.value.next_step


@pytest.mark.parametrize("number", [4096, 1 << 20, (1 << 31) - 1, 1 << 31])
def test_an_errno_that_nobody_knows_is_a_refusal(number: int) -> None:
    with pytest.raises(SourceRefused, match=str(number)):
        fed(message(DONE, struct.pack("=I", -number & 0xFFFFFFFF)))


@pytest.mark.parametrize("body", [b"", b"\0\0\0", bytes(20), struct.pack("=i", 5) + bytes(16)])
def test_an_acknowledgement_is_no_end_of_a_dump(body: bytes) -> None:
    dump = Dump(1)
    with pytest.raises(SourceError, match="acknowledged"):
        feed_all(dump, socket_row(Row()), message(ERROR, body))
    assert not dump.done


@pytest.mark.parametrize("number", [5, 16, 19, 21, 26, 0xFFFF])
def test_a_message_that_nobody_knows_is_no_end_of_a_dump(number: int) -> None:
    dump = Dump(1)
    with pytest.raises(SourceError, match=f"unknown type {number}"):
        feed_all(dump, socket_row(Row()), message(number, bytes(4)))
    assert not dump.done


def test_an_overrun_lost_rows() -> None:
    dump = Dump(1)
    with pytest.raises(Interrupted):
        feed_all(dump, message(OVERRUN, bytes(4)))
    assert not dump.done


@pytest.mark.parametrize(
    "foreign",
    [done(seq=2), done(2, seq=0), error(0, seq=9), message(99, b"", seq=2), message(NOOP, b"")],
)
def test_what_belongs_to_no_dump_ends_none(foreign: bytes) -> None:
    dump = Dump(1)
    assert feed_all(dump, socket_row(Row()), foreign) == []
    assert not dump.done
    assert len(feed_all(dump, socket_row(Row()) + done())) == 2
    assert dump.done


def test_an_interrupted_dump_says_so() -> None:
    assert interrupted(socket_row(Row(), flags=MULTI | DUMP_INTR))
    assert interrupted(message(DONE, bytes(4), flags=MULTI | DUMP_INTR))
    assert interrupted(socket_row(Row()) + socket_row(Row(), flags=MULTI | DUMP_INTR))
    assert not interrupted(socket_row(Row(), flags=MULTI | DUMP_INTR, seq=2))


@pytest.mark.parametrize(
    ("datagram", "complaint"),
    [
        (b"\x01", "cut"),
        (socket_row(Row())[:-1], "claims 88 bytes"),
        (socket_row(Row())[:15], "cut"),
        (struct.pack("=IHHII", 15, BY_FAMILY, 2, 1, 0), "claims 15 bytes"),
        (struct.pack("=IHHII", 0, BY_FAMILY, 2, 1, 0), "claims 0 bytes"),
        (message(BY_FAMILY, Row().body[:-4]), "only 84 bytes"),
        (socket_row(Row(state=14)), "unknown state 14"),
        (socket_row(Row(state=0)), "unknown state 0"),
        (socket_row(Row()) + socket_row(Row(family=1)), "unknown address family 1"),
        (message(BY_FAMILY, Row(family=7).body + b"x"), "unknown address family 7"),
    ],
)
def test_nonsense_is_named(datagram: bytes, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        feed_all(Dump(1), datagram, done())


@MANY
@given(st.binary(max_size=400))
@example(struct.pack("=IHHIIi", 20, DONE, 2, 1, 0, -(1 << 31)))
def test_garbage_is_an_error_or_nothing(raw: bytes) -> None:
    with contextlib.suppress(SourceError):
        feed_all(Dump(1), raw, done())


@MANY
@given(st.binary(max_size=60))
def test_attributes_may_be_garbage(raw: bytes) -> None:
    row = Row(V6, 10, ANY6, 80, ANY6, 0).body + raw
    assert [s.local_port for s in fed(message(BY_FAMILY, row))] == [80]


@pytest.mark.parametrize("size", range(0, 281, 20))
def test_an_attribute_that_is_cut_is_not_read(size: int) -> None:
    info = bytes(44) + struct.pack("=4I", 1, 2, 3, 4) + bytes(220)
    body = Row(attributes=((INFO, info),)).body
    (found,) = fed(message(BY_FAMILY, body[: 72 + size]))
    assert found.info is None  # its length says more than there is


def test_the_mark_of_a_nested_or_foreign_attribute_is_no_part_of_its_kind() -> None:
    (found,) = fed(socket_row(Row(V6, 10, ANY6, 80, ANY6, 0, attributes=((0xC000 | 11, b"\1"),))))
    assert found.v6only


def test_requests_ask_what_they_should() -> None:
    request = inet_diag.encode_request(V6, 1 << 8, info=True, seq=5)
    head, body = struct.unpack("=IHHII", request[:16]), request[16:]
    assert head == (72, 20, 0x301, 5, 0)
    assert struct.unpack("=BBBBI", body[:8]) == (V6, 6, 1 << 1, 0, 1 << 8)
    assert not any(body[8:])
    mptcp = inet_diag.encode_request(2, 1, protocol=262)
    assert mptcp[17] == 255
    assert mptcp[72:] == struct.pack("=HHI", 8, 3, 262)
    chosen = inet_diag.encode_request(2, 1, auto_bound_only=True)
    assert chosen[72:] == struct.pack("=HHBBH", 8, 1, 6, 4, 8)
    assert struct.unpack_from("=I", chosen)[0] == len(chosen) == 80


def test_all_states_are_asked_for() -> None:
    assert sum(1 << number for number in range(1, 14)) == inet_diag.ALL_STATES
    assert inet_diag.state_bits(State.CLOSE_WAIT, State.FIN_WAIT2) == 1 << 8 | 1 << 5
