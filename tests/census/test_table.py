"""The socket table: rows go in and come out, and its columns stay of one length."""

from __future__ import annotations

import ipaddress
from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.census import addresses as addresses_module
from twdiag.census.addresses import Addresses, is_ipv6
from twdiag.model.? import SocketTable, widen
from twdiag.model.sockets import Socket
from twdiag.tcp import State

COLUMNS = (
    *("state", "timer", "retrans", "expires", "src", "dst", "sport", "dport"),
    *("recv_q", "send_q", "uid", "inode", "cookie"),
)
ADDRESS = st.sampled_from(["0.0.0.0", "10.0.0.1", "127.0.0.1", "::", "::1", "fe80::1%3"])
U32 = st.integers(0, 0xFFFFFFFF)
ROWS = st.builds(
    Socket,
    st.sampled_from(State),
    ADDRESS,
    st.integers(0, 0xFFFF),
    ADDRESS,
    st.integers(0, 0xFFFF),
    st.integers(0, 4),
    U32,
    st.integers(0, 255),
    U32,
    U32,
    U32,
    U32,
    st.integers(0, (1 << 64) - 1),
)
GOOD = Socket(State.ESTABLISHED, "10.0.0.1", 1, "10.0.0.2", 2)


def lengths(table: SocketTable) -> set[int]:
    return {len(getattr(table, name)) for name in COLUMNS}


@given(st.lists(ROWS, max_size=10))
def test_rows_come_out_as_they_went_in(rows: list[Socket]) -> None:
    table = SocketTable.of(rows)
    assert list(table) == rows
    assert len(table) == len(rows)
    assert lengths(table) == {len(rows)}


@given(st.lists(ROWS, max_size=10), st.sets(st.sampled_from(State)))
def test_rows_are_found_and_counted_by_state(rows: list[Socket], states: set[State]) -> None:
    table = SocketTable.of(rows)
    wanted = [number for number, row in enumerate(rows) if row.state in states]
    assert table.rows_in(*states) == wanted
    assert table.mask(*states) == bytes(row.state in states for row in rows)
    counts = {state: sum(row.state is state for row in rows) for state in State}
    assert table.count_states() == {state: count for state, count in counts.items() if count}


def test_bound_sockets_are_not_counted_as_closed_ones() -> None:
    table = SocketTable.of([GOOD._replace(state=State.CLOSE)] * 3)
    table.bound = {0, 2}
    assert table.count_states() == {State.CLOSE: 1}
    table.bound = {0, 1, 2}
    assert table.count_states() == {}


@st.composite
def marked(draw: st.DrawFn) -> tuple[SocketTable, set[int]]:
    """A table with marked rows, and some of its rows."""
    table = SocketTable.of(draw(st.lists(ROWS, max_size=10)))
    numbers = st.sets(st.sampled_from(range(len(table)))) if len(table) else st.just(set[int]())
    table.bound, table.v6only, table.mptcp = draw(numbers), draw(numbers), draw(numbers)
    return table, draw(numbers)


def tagged(table: SocketTable) -> list[tuple[Socket, bool, bool, bool]]:
    return [
        (row, number in table.bound, number in table.v6only, number in table.mptcp)
        for number, row in enumerate(table)
    ]


@given(marked())
def test_dropped_rows_are_gone_and_the_others_stay_what_they_were(
    given_: tuple[SocketTable, set[int]],
) -> None:
    table, dropped = given_
    before = tagged(table)
    table.drop(dropped)
    assert tagged(table) == [row for number, row in enumerate(before) if number not in dropped]
    assert len(lengths(table)) == 1
    assert max({-1, *table.bound, *table.v6only, *table.mptcp}) < len(table)


@given(marked(), st.integers(0, 12))
def test_a_cut_table_keeps_its_first_rows(
    given_: tuple[SocketTable, set[int]], length: int
) -> None:
    table, _ = given_
    before = tagged(table)
    table.cut(length)
    assert tagged(table) == before[:length]
    assert len(lengths(table)) == 1
    assert max({-1, *table.bound, *table.v6only, *table.mptcp}) < len(table)


@pytest.mark.parametrize(
    "bad",
    [
        GOOD._replace(local_address="nowhere"),
        GOOD._replace(remote_address="1.2.3.4.5"),
        GOOD._replace(local_port=65536),
        GOOD._replace(remote_port=-1),
        GOOD._replace(expires=-1),
        GOOD._replace(timer=256),
        GOOD._replace(uid=1 << 32),
        GOOD._replace(inode=-1),
        GOOD._replace(cookie=1 << 64),
    ],
)
def test_a_row_that_fits_no_column_leaves_the_table_as_it_was(bad: Socket) -> None:
    table = SocketTable.of([GOOD])
    with pytest.raises(ValueError, match="not a socket"):
        table.add(bad)
    assert list(table) == [GOOD]
    assert lengths(table) == {1}
    assert table.add(GOOD) == 1


def test_counts_too_large_are_capped() -> None:
    huge = GOOD._replace(retrans=300, expires=1 << 40, recv_q=1 << 40, send_q=1 << 33)
    (row,) = SocketTable.of([huge])
    assert (row.retrans, row.expires, row.recv_q, row.send_q) == (255, *[0xFFFFFFFF] * 3)


# Addresses.


@given(st.ip_addresses())
def test_addresses_read_as_people_write_them(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    addresses = Addresses()
    number = addresses.of_bytes(address.packed)
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(addresses.text(number)) == (mapped or address)
    assert is_ipv6(number) == (address.version == 6 and mapped is None)
    assert addresses.of_text(str(address)) == number


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_its_own_number(address: ipaddress.IPv4Address) -> None:
    addresses = Addresses()
    assert addresses.of_text(str(address)) == int(address)
    assert addresses.of_text(f"::ffff:{address}") == int(address)
    assert addresses.text(int(address)) == str(address)


def test_equal_addresses_have_one_number_and_different_ones_two() -> None:
    addresses = Addresses()
    texts = ["::1", "::2", "0:0:0:0:0:0:0:1", "fe80::1", "fe80::1%1", "fe80::1%2", "::2%5"]
    numbers = [addresses.of_text(text) for text in texts]
    assert numbers[0] == numbers[2]
    assert numbers[1] == numbers[6]
    assert len(set(numbers)) == 5
    assert addresses.text(numbers[5]) == "fe80::1%2"


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.2.3", "1.2.3.256", "::g", "1.2.3.4:5", "*", "\0", "\ud800", "%1"]
)
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (also UnicodeEncodeError, which is one)
        Addresses().of_text(text)


BATCHES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), max_size=6)


@given(BATCHES, st.integers(0, 4), st.booleans())
def test_of_very_many_ipv6_addresses_those_with_several_rows_are_told_apart(
    batches: list[list[int]], most: int, cut: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses_module, "_MOST_TOLD_APART", most)
        table, last_bytes = SocketTable(), [last for batch in batches for last in batch]
        if cut:  # a dump that was taken again
            table.extend_closed([bytes(15) + bytes([n]) for n in (1, 2, 3, 7, 7)])
            table.cut(0)
        for batch in batches:
            table.extend_closed([bytes(15) + bytes([n]) for n in batch])
        texts = [f"::{last}" for last in last_bytes]
        assert list(map(table.addresses.text, table.dst)) == texts
        loose = Counter(
            text
            for text, n in zip(texts, table.dst, strict=True)
            if n >= addresses_module._FIRST_LOOSE
        )
        table.settle()
    assert list(map(table.addresses.text, table.dst)) == texts
    assert all(map(is_ipv6, table.dst))
    several = 2
    while sum(rows >= several for rows in loose.values()) > most:
        several *= 2
    for text, rows in loose.items():
        if rows >= several:
            assert {n for n, t in zip(table.dst, texts, strict=True) if t == text} == {
                table.addresses.of_text(text)
            }


def test_few_ipv6_addresses_are_told_apart_whatever_their_rows() -> None:
    table = SocketTable()
    raws = [bytes(14) + bytes(divmod(n, 256)) for n in range(1000)]
    table.extend_closed(raws)
    table.extend_closed(raws)
    table.settle()
    assert len(set(table.dst)) == 1000


@given(st.lists(U32, max_size=9))
def test_widened_words_keep_their_values(words: list[int]) -> None:
    column = widen(array("I", words))
    assert column.typecode == "Q"
    assert column.tolist() == words
