"""Decode the kernel's trace ring buffer and the `format` files that describe it.  Pure: bytes in.

Layout: include/linux/ring_buffer.h, kernel/trace/ring_buffer.c (struct buffer_data_page) and the
files events/header_page, events/header_event and events/SYSTEM/NAME/format of tracefs.
"""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from twdiag.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Unpacker = Callable[[bytes, int], tuple[Any, ...]]

_E = TypeVar("_E")

Maker = tuple["Callable[[tuple[Any, ...]], _E]", "Unpacker"]
"""What makes an event of the moment and its fields' values, and what decodes these."""

_FIELD: Final = re.compile(
    r"^\s*field:\s*(?P<type>[^;]*?)(?P<name>\w+)(?:\[(?P<length>\d*)\])?;\s*"
    r"offset:(?P<offset>\d+);\s*size:(?P<size>\d+);(?:\s*signed:(?P<signed>[01]);)?",
    re.MULTILINE,
)
_ID: Final = re.compile(r"^ID:\s*(\d+)\s*$", re.MULTILINE)
_SYMBOLS: Final = re.compile(r"__print_symbolic\(REC->(\w+),((?:\s*\{[^{}]*\},?)*)\)")
_SYMBOL: Final = re.compile(r'\{\s*(-?(?:0x)?[0-9a-fA-F]+)\s*,\s*"([^"]*)"\s*\}')
_CODES: Final = {1: "bB", 2: "hH", 4: "iI", 8: "qQ"}

# struct ring_buffer_event: 5 bits of type_len and 27 of time_delta (little endian).
_TYPE_BITS: Final = 5
_TYPE_MASK: Final = (1 << _TYPE_BITS) - 1
_PADDING: Final = 29
_TIME_EXTEND: Final = 30
_DELTA_BITS: Final = 27
_STAMP_HIGH: Final = ~((1 << 59) - 1)  # a time stamp event replaces the low 59 bits

# The upper bits of the page's commit word.
_SIZE_MASK: Final = (1 << 20) - 1
_MISSED: Final = 1 << 31
_MISSED_STORED: Final = 1 << 30

_U16: Final = struct.Struct("=H").unpack_from
_U32: Final = struct.Struct("=I").unpack_from
_HEAD: Final = struct.Struct("=IH").unpack_from
_U64: Final = struct.Struct("=Q").unpack_from


class Field(NamedTuple):
    """Where a field of an event stands, in bytes from the event's beginning."""

    offset: int
    size: int
    signed: bool
    array: bool


class EventFormat(NamedTuple):
    """What a `format` file says: the event's number, its fields, and names of fields' values."""

    number: int
    fields: Mapping[str, Field]
    symbols: Mapping[str, Mapping[int, str]]

    def decoder(self, *names: str) -> Unpacker:
        """Return a function of (buffer, offset of the event) to the values of these fields.

        Integers, and bytes for arrays.  Names with "+" between them are fields that stand one
        behind the other, and are read as one.  Raises SourceError where this kernel has no such
        field.
        """
        fields = {name: self._field(name) for name in names}
        ordered = sorted(names, key=lambda name: fields[name].offset)
        code, end = "=", 0
        for name in ordered:
            field = fields[name]
            if field.offset < end:
                raise SourceError(f"the fields of a trace event overlap at {name}")
            code += f"{field.offset - end}x{_code(field)}"
            end = field.offset + field.size
        unpack: Unpacker = struct.Struct(code).unpack_from
        if ordered == list(names):
            return unpack
        pick = itemgetter(*(ordered.index(name) for name in names))
        return lambda buffer, offset: pick(unpack(buffer, offset))

    def _field(self, name: str) -> Field:
        parts = []
        for part in name.split("+"):
            if part not in self.fields:
                raise SourceError(f"this kernel's trace event has no field {part}")
            parts.append(self.fields[part])
        for before, after in pairwise(parts):
            if before.offset + before.size != after.offset:
                raise SourceError(f"the fields {name} of a trace event are apart")
        if len(parts) == 1:
            return parts[0]
        return Field(parts[0].offset, sum(part.size for part in parts), False, True)


class PageLayout(NamedTuple):
    """Where a page of the buffer has its commit word and where its events begin, in bytes."""

    commit_offset: int
    commit_size: int
    data_offset: int


def parse_format(text: str) -> EventFormat:
    """Return what a `format` file says.  Raises SourceError where it is not one."""
    number = _ID.search(text)
    fields = _fields(text)
    if number is None or not fields:
        raise SourceError("a trace event's format cannot be understood")
    symbols = {
        name: {int(value, 0): word for value, word in _SYMBOL.findall(listed)}
        for name, listed in _SYMBOLS.findall(text)
    }
    return EventFormat(int(number[1]), fields, symbols)


def parse_header_page(text: str) -> PageLayout:
    """Return the layout of a page, as events/header_page has it."""
    fields = _fields(text)
    if not {"commit", "data"} <= set(fields) or fields["commit"].size not in (4, 8):
        raise SourceError("the layout of the trace buffer cannot be understood")
    commit = fields["commit"]
    return PageLayout(commit.offset, commit.size, fields["data"].offset)


def read_page(
    page: bytes,
    layout: PageLayout,
    makers: Mapping[int, Maker[_E]],
    events: list[_E],
) -> int:
    """Append the events of one page; return how many were lost before it, -1 for "some".

    `makers` has for the number of each event that is wanted what makes an event of (nanoseconds,
    values), and the decoder of these values.  Raises SourceError where the page is not what the
    kernel writes.
    """
    try:
        return _read_page(page, layout, makers, events)
    except struct.error as error:
        raise SourceError("a page of the trace buffer is shorter than it says") from error


def _read_page(
    page: bytes,
    layout: PageLayout,
    makers: Mapping[int, Maker[_E]],
    events: list[_E],
) -> int:
    (at,) = _U64(page, 0)
    long = _U64 if layout.commit_size == 8 else _U32
    (word,) = long(page, layout.commit_offset)
    place = layout.data_offset
    end = place + (word & _SIZE_MASK)
    if end > len(page):
        raise SourceError("a page of the trace buffer is shorter than it says")
    lost: int = 0
    if word & _MISSED:  # then an unsigned long after the events says how many
        lost = long(page, end)[0] if word & _MISSED_STORED else -1
    append, maker_of = events.append, makers.get
    page += b"\0\0"  # so that a head can be read with the number behind it
    while place < end:
        head, number = _HEAD(page, place)
        kind, delta = head & _TYPE_MASK, head >> _TYPE_BITS
        place += 4
        if kind < _PADDING:
            at += delta
            start, length = place, kind * 4
            if not kind:
                (length,) = _U32(page, place)
                start += 4
                if length < 8:
                    raise SourceError("an event of the trace buffer has an impossible length")
                (number,) = _U16(page, start)
            place += length
            if place > end:
                raise SourceError("an event of the trace buffer runs over its page")
            maker = maker_of(number)
            if maker is not None:
                build, decode = maker
                append(build((at, *decode(page, start))))
        elif kind == _PADDING:
            if not delta:
                break  # the rest of the page is empty
            at += delta
            place += _U32(page, place)[0]  # an event that was thrown away
        else:
            (high,) = _U32(page, place)
            whole = (high << _DELTA_BITS) + delta
            at = at + whole if kind == _TIME_EXTEND else (at & _STAMP_HIGH) | whole
            place += 4
    return lost


def text_of(name: bytes) -> str:
    """Return a name from a fixed array of bytes, undecodable ones as surrogates."""
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _fields(text: str) -> dict[str, Field]:
    return {
        m["name"]: Field(
            int(m["offset"]), int(m["size"]), m["signed"] == "1", m["length"] is not None
        )
        for m in _FIELD.finditer(text)
    }


def _code(field: Field) -> str:
    codes = _CODES.get(field.size)
    if field.array or codes is None:
        return f"{field.size}s"
    return codes[0] if field.signed else codes[1]


def total_lost(counts: Sequence[int]) -> int:
    """Return a sum in which "some" (-1) counts as one: a lower bound."""
    return sum(1 if count < 0 else count for count in counts)
