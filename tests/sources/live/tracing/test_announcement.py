"""Announcements of ended sockets, decoded from bytes written by hand, and from anything at all."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceError
from twdiag.model.closes import Traffic
from twdiag.sources.live.tracing.announcement import Decoder, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.closes import Death

_PROTOCOL, _INFO = 10, 2
INFO_BYTES: Final = 280


def info(size: int = INFO_BYTES, **values: int) -> bytes:
    """Return a struct tcp_info with some fields set."""
    at = {
        "retransmits": (2, "B"),
        "probes": (3, "B"),
        "backoff": (4, "B"),
        "last_sent": (44, "I"),
        "last_received": (52, "I"),
        "last_ack": (56, "I"),
        "rtt": (68, "I"),
        "own_mss": (84, "I"),
        "acked": (120, "Q"),
        "received": (128, "Q"),
        "segments_in": (140, "I"),
        "waiting": (144, "I"),
        "min_rtt": (148, "I"),
        "data_segments_in": (152, "I"),
        "data_segments_sent": (156, "I"),
        "delivered": (192, "I"),
        "sent": (200, "Q"),
        "resent": (208, "Q"),
    }
    whole = bytearray(INFO_BYTES)
    for name, value in values.items():
        offset, code = at[name]
        struct.pack_into(f"={code}", whole, offset, value)
    return bytes(whole[:size])


def message(family: int = 2, tail: bytes = b"", attributes: bytes | None = None) -> bytes:
    """Return one announcement."""
    local, remote = socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")
    body = struct.pack("=BBBB", family, 7, 0, 0) + struct.pack(">HH", 8080, 40000)
    body += local.ljust(16, b"\0") + remote.ljust(16, b"\0")
    body += struct.pack("=IQIIIII", 3, 0xABCDEF, 0, 1, 9, 0, 0)
    if attributes is None:
        attributes = struct.pack("=HHB3x", 5, _PROTOCOL, 6)
        attributes += struct.pack("=HH", 4 + INFO_BYTES, _INFO) + info(acked=5, sent=3, rtt=77)
    body += attributes
    return struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body + tail


def test_an_announcement_is_decoded() -> None:
    (death,) = decode(message(), 123)
    assert (death.at, death.cookie, death.family) == (123, 0xABCDEF, 2)
    assert (death.local, death.local_port) == (b"\x0a\0\0\1", 8080)
    assert (death.remote, death.remote_port, death.interface) == (b"\x0a\0\0\2", 40000, 3)
    assert (death.unread, death.unacked) == (1, 9)
    assert not death.disconnected
    assert death.traffic is not None
    assert (death.traffic.acked, death.traffic.sent, death.traffic.rtt) == (5, 3, 77)


def test_each_field_of_tcp_info_is_where_the_kernel_has_it() -> None:
    values = {name: number + 1 for number, name in enumerate(Traffic._fields)}
    attributes = struct.pack("=HH", 4 + INFO_BYTES, _INFO) + info(**values)
    (death,) = decode(message(attributes=attributes), 0)
    assert death.traffic is not None
    assert death.traffic._asdict() == values


def test_an_older_kernels_tcp_info_says_less() -> None:
    attributes = struct.pack("=HH", 4 + 192, _INFO) + info(192, acked=5)
    (death,) = decode(message(attributes=attributes), 0)
    assert death.traffic is not None
    assert (death.traffic.acked, death.traffic.sent, death.traffic.resent) == (5, None, None)
    (bare,) = decode(message(attributes=b""), 0)
    assert bare.traffic is None


def test_an_ipv6_address_is_whole() -> None:
    (death,) = decode(message(family=10), 0)
    assert len(death.local) == len(death.remote) == 16


def test_several_messages_are_one_after_the_other() -> None:
    assert len(decode(message() + message(), 0)) == 2


@given(st.integers(0, 390))
def test_a_cut_announcement_is_an_error(kept: int) -> None:
    whole = message()
    if 0 < kept < len(whole):
        with pytest.raises(SourceError):
            decode(whole[:kept], 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_announcements_or_an_error(data: bytes) -> None:
    for datagram in (data, message()[:16] + data):
        with contextlib.suppress(SourceError):
            decode(datagram, 0)


def attribute(value: bytes) -> bytes:
    """Return a struct tcp_info with its attribute's head."""
    return struct.pack("=HH", 4 + len(value), _INFO) + value


KINDS: Final = {
    "plain": message(),
    "longer": message(attributes=struct.pack("=HHI", 8, 15, 3) + attribute(info(sent=9))),
    "ipv6": message(10),
    "old": message(attributes=attribute(info(200))),
    "two": message() + message(),
    "none": message(attributes=b""),
    "junk": message()[:16] + bytes(len(message()) - 16),
}


def outcome(decode: Callable[[bytes, int], list[Death]], datagram: bytes) -> object:
    """Return what is decoded, or the error's sentence."""
    try:
        return decode(datagram, 5)
    except SourceError as error:
        return error.what


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=9), st.binary(max_size=400))
def test_what_is_decoded_at_once_is_what_is_decoded_in_parts(kinds: list[str], raw: bytes) -> None:
    decoder, size = Decoder(), len(message())
    damaged = (raw, raw[:size].ljust(size, b"\0"), message()[:60] + raw[60:size])
    for datagram in (*(KINDS[kind] for kind in kinds), message(), *damaged, message()):
        assert outcome(decoder.decode, datagram) == outcome(decode, datagram)
