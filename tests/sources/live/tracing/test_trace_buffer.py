"""Pages of the trace ring buffer and format files: made as the kernel makes them, and broken."""

from __future__ import annotations

import contextlib
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceError
from twdiag.sources.live.tracing.trace_buffer import (
    PageLayout,
    parse_format,
    parse_header_page,
    read_page,
    text_of,
    total_lost,
)
from twdiag.sources.live.tracing.tracefs import parse_lost

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYOUT: Final = PageLayout(8, 8, 16)
HEADER_PAGE: Final = """\
	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:4080;	signed:0;
"""
FORMAT: Final = """\
name: tcp_send_reset
ID: 2280
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:const void * skbaddr;	offset:8;	size:8;	signed:0;
	field:const void * skaddr;	offset:16;	size:8;	signed:0;
	field:int state;	offset:24;	size:4;	signed:1;
	field:enum sk_rst_reason reason;	offset:28;	size:4;	signed:0;
	field:__u8 saddr[28];	offset:32;	size:28;	signed:0;

print fmt: "state=%s reason=%s", REC->state ? __print_symbolic(REC->state, { TCP_ESTABLISHED, \
"TCP_ESTABLISHED" }) : "UNKNOWN", __print_symbolic(REC->reason, { 0, "NOT_SPECIFIED" }, \
{ 11, "TCP_ABORT_ON_CLOSE" }, { 0x10, "HEX" })
"""


def event(number: int, payload: bytes, delta: int = 0, *, long: bool = False) -> bytes:
    """Return one event as ring_buffer_event."""
    body = struct.pack("=H", number) + payload
    body += bytes(-len(body) % 4)
    if long or len(body) > 28 * 4:
        return struct.pack("=II", delta << 5, len(body) + 4) + body
    return struct.pack("=I", delta << 5 | len(body) // 4) + body


def extend(delta: int) -> bytes:
    """Return a time_extend."""
    return struct.pack("=II", (delta & 0x7FFFFFF) << 5 | 30, delta >> 27)


def stamp(at: int) -> bytes:
    """Return an absolute time stamp."""
    return struct.pack("=II", (at & 0x7FFFFFF) << 5 | 31, at >> 27 & 0xFFFFFFFF)


def page_of(at: int, events: bytes, flags: int = 0, tail: bytes = b"") -> bytes:
    """Return a page."""
    return struct.pack("=QQ", at, len(events) | flags) + events + tail


def read(page: bytes, numbers: Sequence[int] = range(1, 10)) -> tuple[list[tuple[int, bytes]], int]:
    """Return (moment, payload's first 4 bytes) of each event, and what was lost."""
    found: list[tuple[int, bytes]] = []
    maker = (lambda values: values), (lambda p, o: (bytes(p[o + 2 : o + 6]),))
    makers = dict.fromkeys(numbers, maker)
    lost = read_page(page, LAYOUT, makers, found)
    return found, lost


def test_a_page_is_read() -> None:
    events = event(1, b"aaaa", 5) + event(2, b"bbbb", 7, long=True) + event(99, b"skip", 1)
    events += extend((3 << 27) + 11) + event(3, b"cccc", 2)
    assert read(page_of(1000, events)) == (
        [(1005, b"aaaa"), (1012, b"bbbb"), (1013 + (3 << 27) + 13, b"cccc")],
        0,
    )


def test_an_absolute_stamp_keeps_the_high_bits_of_the_time() -> None:
    high = 3 << 59
    events = stamp(0x123456789ABCD) + event(1, b"aaaa", 1)
    assert read(page_of(high | 5, events))[0] == [(high | 0x123456789ABCE, b"aaaa")]


def test_padding_ends_a_page_and_skips_what_was_thrown_away() -> None:
    thrown = struct.pack("=II", 3 << 5 | 29, 12) + bytes(8)
    events = thrown + event(1, b"aaaa", 1)
    assert read(page_of(0, events))[0] == [(4, b"aaaa")]
    rest = struct.pack("=II", 29, 0) + bytes(20)
    assert read(page_of(0, event(1, b"aaaa", 1) + rest))[0] == [(1, b"aaaa")]


def test_lost_events_are_counted_where_the_page_says_how_many() -> None:
    events = event(1, b"aaaa")
    stored = page_of(0, events, 1 << 31 | 1 << 30, struct.pack("=Q", 1234))
    assert read(stored)[1] == 1234
    assert read(page_of(0, events, 1 << 31))[1] == -1
    assert total_lost([1234, -1, 2]) == 1237


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.binary(min_size=4, max_size=150), st.integers(0, 1 << 40)),
        max_size=30,
    ),
    st.integers(0, 1 << 58),
)
def test_what_is_written_is_read(written: list[tuple[int, bytes, int]], began: int) -> None:
    events, at, expected = b"", began, []
    for number, payload, delta in written:
        if delta >= 1 << 27:
            events += extend(delta) + event(number, payload)
        else:
            events += event(number, payload, delta)
        at += delta
        expected.append((at, payload[:4]))
    assert read(page_of(began, events)) == (expected, 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_page_or_an_error(page: bytes) -> None:
    with contextlib.suppress(SourceError):
        read(page)


@given(st.integers(0, 200))
def test_a_page_that_is_cut_is_an_error(kept: int) -> None:
    page = page_of(5, b"".join(event(1, b"aaaa" * n, n) for n in range(1, 9)))
    if kept < len(page):
        with pytest.raises(SourceError):
            read(page[:kept])


def test_a_format_gives_offsets_and_words() -> None:
    found = parse_format(FORMAT)
    assert found.number == 2280
    assert found.symbols == {
        "state": {},
        "reason": {0: "NOT_SPECIFIED", 11: "TCP_ABORT_ON_CLOSE", 16: "HEX"},
    } or found.symbols == {"reason": {0: "NOT_SPECIFIED", 11: "TCP_ABORT_ON_CLOSE", 16: "HEX"}}
    buffer = bytes(3) + struct.pack("=HBBiQQiI", 2280, 16, 0, -7, 1, 2**63, -3, 11) + b"x" * 28
    assert found.decoder("skaddr", "reason")(buffer, 3) == (2**63, 11)
    assert found.decoder("reason", "common_pid", "saddr")(buffer, 3) == (11, -7, b"x" * 28)


def test_fields_that_follow_each_other_are_read_as_one() -> None:
    found = parse_format(FORMAT)
    names = sorted(found.fields, key=lambda name: found.fields[name].offset)
    pair = next(
        (a, b)
        for a, b in pairwise(names)
        if found.fields[a].offset + found.fields[a].size == found.fields[b].offset
    )
    buffer = bytes(range(200))
    first, second = (found.fields[name] for name in pair)
    whole = buffer[3 + first.offset : 3 + second.offset + second.size]
    assert found.decoder("+".join(pair))(buffer, 3) == (whole,)
    with pytest.raises(SourceError, match="are apart"):
        found.decoder("+".join(reversed(pair)))


def test_a_field_that_is_missing_is_an_error() -> None:
    with pytest.raises(SourceError, match="no field sock_cookie"):
        parse_format(FORMAT).decoder("skaddr", "sock_cookie")


@pytest.mark.parametrize("text", ["", "ID: 5\n", FORMAT.replace("ID:", "Id:"), "field"])
def test_what_is_no_format_is_an_error(text: str) -> None:
    with pytest.raises(SourceError):
        parse_format(text)


@given(st.text(max_size=300))
def test_any_text_is_a_format_or_an_error(text: str) -> None:
    for parse in (parse_format, parse_header_page):
        with contextlib.suppress(SourceError):
            parse(text)


def test_the_layout_of_a_page_is_read() -> None:
    assert parse_header_page(HEADER_PAGE) == LAYOUT
    with pytest.raises(SourceError):
        parse_header_page(HEADER_PAGE.replace("commit", "comet"))


def test_lost_events_are_summed_up_from_stats() -> None:
    stats = "entries: 12\noverrun: 400\ncommit overrun: 3\nbytes: 9\ndropped events: 20\n"
    assert parse_lost(stats) == 423
    assert parse_lost("") == 0
    assert parse_lost("overrun: many\n") == 0


@given(st.binary(max_size=16))
def test_names_are_decoded_whatever_they_are(name: bytes) -> None:
    assert "\0" not in text_of(name)
    assert text_of(name).encode("utf-8", "surrogateescape") == name.partition(b"\0")[0]
