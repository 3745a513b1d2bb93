"""The decoder gives back every row of a dump however it is cut, and survives anything else."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twdiag.model.? import SocketTable
from twdiag.errors import SourceError, SourceRefused
from twdiag.sources.live import inet_diag
from twdiag.sources.live.inet_diag import Dump
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
    SKV6ONLY,
    Row,
    done,
    dumps,
    error,
    lengths,
    message,
    rows,
    seen_in,
)

V6 = socket.AF_INET6
ANY6 = bytes(16)
MAPPED = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 9])


def fed(*datagrams: bytes, info: bool = False) -> Dump:
    """Return the dump of these datagrams, ended where they do not end it themselves."""
    dump = Dump(SocketTable(), 1, info=info)
    feed_all(dump, *datagrams)
    if not dump.done:
        dump.feed(done())
    return dump


def feed_all(dump: Dump, *datagrams: bytes) -> None:
    for datagram in datagrams:
        dump.feed(datagram)


def socket_row(row: Row, **head: int) -> bytes:
    return message(BY_FAMILY, row.body, **head)


@MANY
@given(dumps())
def test_every_row_comes_out_however_the_dump_is_cut(dump: tuple[list[Row], list[bytes]]) -> None:
    wanted, datagrams = dump
    decoded = fed(*datagrams)
    assert decoded.done
    assert not decoded.interrupted
    assert Counter(seen_in(decoded.table)) == Counter(row.expected() for row in wanted)


@MANY
@given(dumps(), st.sampled_from([1, 2, 3]), st.booleans())
def test_long_runs_are_decoded_where_they_stand(
    dump: tuple[list[Row], list[bytes]], long: int, joined: bool
) -> None:
    wanted, datagrams = dump
    if joined:  # as far as they may be: netlink pads what it sends
        datagrams = [b"".join(raw + bytes(-len(raw) % 4) for raw in datagrams)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inet_diag, "_LONG_RUN", long)
        decoded = fed(*datagrams)
    assert Counter(seen_in(decoded.table)) == Counter(row.expected() for row in wanted)


@MANY
@given(dumps(), st.booleans())
def test_bound_and_v6only_rows_are_marked(dump: tuple[list[Row], list[bytes]], info: bool) -> None:
    wanted, datagrams = dump
    table = fed(*datagrams, info=info).table
    found = seen_in(table)
    assert Counter(found[row] for row in table.bound) == Counter(
        row.expected() for row in wanted if row.state in (7, 13)
    )
    assert Counter(found[row] for row in table.v6only) == Counter(
        row.expected() for row in wanted if row.state == 10 and (SKV6ONLY, b"\1") in row.attributes
    )


@MANY
@given(st.lists(rows(), unique_by=lambda row: row.cookie, max_size=12))
def test_ages_are_kept_by_cookie(wanted: list[Row]) -> None:
    datagram = b"".join(map(socket_row, wanted)) + done()
    ages = {
        cookie: (age.last_data_sent, age.last_data_recv, age.last_ack_recv)
        for cookie, age in fed(datagram, info=True).tcp_info.items()
    }
    assert ages == {row.cookie: row.ages for row in wanted if row.ages is not None}


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
    decoded = fed(3 * socket_row(row) + 2 * socket_row(Row(state=6)) + socket_row(row))
    assert Counter(decoded.table.state) == {1: 4, 6: 2}
    assert lengths(decoded.table) == {6}


def test_a_run_ends_where_another_dump_s_row_stands() -> None:
    mine, other = socket_row(Row(sport=1)), socket_row(Row(sport=2), seq=9)
    for before in (1, 2, 7, 8, 9, 40):
        decoded = fed(before * mine + other + 50 * mine + done())
        assert decoded.table.sport.tolist() == [1] * (before + 50)


def test_a_request_socket_is_in_syn_recv() -> None:
    assert [row.state for row in fed(socket_row(Row(state=12))).table] == [State.SYN_RECV]


@pytest.mark.parametrize("state", [7, 13])
def test_a_bound_socket_is_no_counted_state(state: int) -> None:
    table = fed(socket_row(Row(state=1)) + socket_row(Row(state=state, dport=0))).table
    assert table.bound == {1}
    assert table.count_states() == {State.ESTABLISHED: 1}


def test_addresses_read_as_people_write_them() -> None:
    table = fed(
        socket_row(Row(V6, 10, ANY6, 80, ANY6, 0)),
        socket_row(Row(V6, 1, MAPPED, 80, MAPPED, 5000)),
        socket_row(Row(V6, 1, b"\xfe\x80" + bytes(13) + b"\1", 80, ANY6, 1, interface=3)),
        socket_row(Row(V6, 1, b"\x20\x01\x0d\xb8" + bytes(11) + b"\1", 80, ANY6, 1, interface=3)),
    ).table
    assert [row.local_address for row in table] == ["::", "10.0.0.9", "fe80::1%3", "2001:db8::1"]


def test_thousands_of_rows_of_mixed_kinds_all_arrive() -> None:
    kinds = [
        Row(state=6, attributes=((MARK, bytes(4)),)),
        Row(V6, 6, MAPPED, 80, MAPPED, 9, attributes=((MARK, bytes(4)),)),
        Row(state=1),
    ]
    datagram = b"".join(socket_row(row) for row in kinds)
    decoded = fed(*[datagram] * 3000)
    assert Counter(seen_in(decoded.table)) == {row.expected(): 3000 for row in kinds}


def test_mapped_and_other_addresses_mix_in_one_run() -> None:
    ends = [MAPPED, ANY6, MAPPED, b"\x20" + bytes(15)]
    table = fed(b"".join(socket_row(Row(V6, 1, end, 1, MAPPED, 2)) for end in ends)).table
    assert [row.local_address for row in table] == ["10.0.0.9", "::", "10.0.0.9", "2000::"]


@pytest.mark.parametrize("place", [0, 7, 8, 9, 10, 11])
def test_an_address_that_is_nearly_a_mapped_one_is_none(place: int) -> None:
    end = bytearray(MAPPED)
    end[place] ^= 0x40
    row = Row(V6, 1, bytes(end), 1, MAPPED, 2)
    assert seen_in(fed(3 * socket_row(row)).table) == 3 * [row.expected()]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EBUSY])
@pytest.mark.parametrize("end", [done, error])
def test_a_refusal_is_an_error_and_never_an_empty_table(number: int, end: object) -> None:
    dump = Dump(SocketTable(), 1)
    with pytest.raises(SourceRefused, match=errno.errorcode[number]) as refusal:
        dump.feed(end(number))  # type: ignore[operator]
    assert refusal.value.next_step
    assert dump.done


@pytest.mark.parametrize("number", [4096, 1 << 20, (1 << 31) - 1, 1 << 31])
def test_an_errno_that_nobody_knows_is_a_refusal(number: int) -> None:
    with pytest.raises(SourceRefused, match=str(number)):
        fed(message(DONE, struct.pack("=I", -number & 0xFFFFFFFF)))


@pytest.mark.parametrize("body", [b"", b"\0\0\0"])
def test_a_cut_error_message_is_an_error(body: bytes) -> None:
    with pytest.raises(SourceError, match="cut"):
        fed(message(ERROR, body))


def test_an_acknowledgement_ends_a_dump() -> None:
    assert fed(error(0)).done


def test_an_interrupted_dump_says_so() -> None:
    assert fed(socket_row(Row(), flags=MULTI | DUMP_INTR)).interrupted
    assert fed(message(DONE, bytes(4), flags=MULTI | DUMP_INTR)).interrupted
    assert fed(socket_row(Row()) + socket_row(Row(), flags=MULTI | DUMP_INTR)).interrupted
    assert not fed(socket_row(Row(), flags=MULTI | DUMP_INTR, seq=2)).interrupted


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
    dump = Dump(SocketTable(), 1)
    with pytest.raises(SourceError, match=complaint):
        feed_all(dump, datagram, done())
    assert len(lengths(dump.table)) == 1


@MANY
@given(
    dumps(),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-30, 0),
    st.booleans(),
)
def test_corruption_is_an_error_or_a_table_and_nothing_else(
    dump: tuple[list[Row], list[bytes]],
    changes: list[tuple[int, int]],
    cut: int,
    info: bool,
) -> None:
    _, datagrams = dump
    raw = bytearray(b"".join(datagrams))
    for place, value in changes:
        raw[place % len(raw)] = value
    decoder = Dump(SocketTable(), 1, info=info)
    with contextlib.suppress(SourceError):
        feed_all(decoder, bytes(raw[: cut or None]), done())
    assert len(lengths(decoder.table)) == 1
    list(decoder.table)


@MANY
@given(st.binary(max_size=400), st.booleans())
@example(struct.pack("=IHHIIi", 20, DONE, 2, 1, 0, -(1 << 31)), False)
def test_garbage_is_an_error_or_nothing(raw: bytes, info: bool) -> None:
    decoder = Dump(SocketTable(), 1, info=info)
    with contextlib.suppress(SourceError):
        feed_all(decoder, raw, done())
    assert lengths(decoder.table) == {len(decoder.table)}


@MANY
@given(st.binary(max_size=60), st.booleans())
def test_attributes_may_be_garbage(raw: bytes, info: bool) -> None:
    row = Row(V6, 10, ANY6, 80, ANY6, 0).body + raw
    assert fed(message(BY_FAMILY, row), info=info).table.sport.tolist() == [80]


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
