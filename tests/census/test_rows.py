"""One readable socket becomes a row, or a ValueError."""

from __future__ import annotations

import pytest

from twdiag.census.rows import Rows
from twdiag.model.sockets import Socket
from twdiag.tcp import State

GOOD = Socket(State.ESTABLISHED, "10.0.0.1", 1, "10.0.0.2", 2, 1, 500, inode=9)
MAPPED = bytes(10) + b"\xff\xff"


def test_a_row_has_the_bytes_of_its_socket() -> None:
    row = Rows.of(GOOD)
    assert (row.states, row.timers) == (b"\1", b"\1")
    assert [list(column) for column in (row.local_ports, row.remote_ports)] == [[1], [2]]
    assert [column.tobytes() for column in (row.local, row.remote)] == [
        b"\x0a\0\0\1",
        b"\x0a\0\0\2",
    ]  # type: ignore[union-attr]
    assert (list(row.expires), list(row.inodes)) == ([500], [9])


def test_v4_mapped_sockets_are_ipv4() -> None:
    mapped = GOOD._replace(local_address="::ffff:10.0.0.1", remote_address="::ffff:10.0.0.2")
    assert Rows.of(mapped) == Rows.of(GOOD)


def test_both_ends_keep_the_scope_of_a_link_local_address() -> None:
    row = Rows.of(GOOD._replace(local_address="fe80::1%7", remote_address="fe80::2%7"))
    assert row.local[0][16:] == row.remote[0][16:] == b"\0\0\0\7"  # type: ignore[index]
    row = Rows.of(GOOD._replace(local_address="::1", remote_address="::2"))
    assert [len(row.local[0]), len(row.remote[0])] == [16, 20]  # type: ignore[arg-type]


@pytest.mark.parametrize("mapped", ["local_address", "remote_address"])
def test_one_end_of_ipv4_and_the_other_of_ipv6_is_a_row_too(mapped: str) -> None:
    both = GOOD._replace(local_address="::1", remote_address="::1")
    row = Rows.of(both._replace(**{mapped: "10.0.0.1"}))
    end = row.local[0] if mapped == "local_address" else row.remote[0]
    assert end[:16] == MAPPED + b"\x0a\0\0\1"  # type: ignore[index]


def test_a_timer_too_long_for_its_column_is_capped() -> None:
    assert list(Rows.of(GOOD._replace(expires=1 << 40)).expires) == [0xFFFFFFFF]


@pytest.mark.parametrize(
    "bad",
    [
        {"local_address": "nowhere"},
        {"remote_address": "1.2.3.4.5"},
        {"local_port": 65536},
        {"remote_port": -1},
        {"expires": -1},
        {"timer": 256},
        {"inode": -1},
        {"inode": 1 << 32},
    ],
)
def test_a_socket_that_fits_no_column_is_an_error(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a"):
        Rows.of(GOOD._replace(**bad))  # type: ignore[arg-type]
