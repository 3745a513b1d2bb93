"""Addresses come and go as bytes and as people write them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.census.addresses import bytes_of, bytes_of_text, is_link_local, text_of, word

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@given(st.ip_addresses(), st.integers(0, 0xFFFFFFFF))
def test_addresses_read_as_people_write_them(address: Address, scope: int) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    text = text_of(address.packed, scope)
    plain, _, shown = text.partition("%")
    assert ipaddress.ip_address(plain) == (mapped or address)
    link_local = address.version == 6 and address.is_link_local
    assert int(shown or 0) == (scope if link_local else 0)
    assert bytes_of_text(text) == ((mapped or address).packed, int(shown or 0))


@given(st.binary(min_size=16, max_size=16) | st.binary(max_size=14).map(b"\xfe\x80".__add__))
def test_link_local_is_fe80_10(raw: bytes) -> None:
    raw = raw[:16].ljust(16, b"\0")
    assert is_link_local(raw) == (ipaddress.IPv6Address(raw) in ipaddress.ip_network("fe80::/10"))


@given(st.binary(min_size=4, max_size=4))
def test_a_word_stands_for_its_four_bytes(raw: bytes) -> None:
    assert bytes_of(word(raw)) == raw


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "1.2.3", "1.2.3.256", "::g", "1.2.3.4:5", "*", "\0", "\ud800", "%1"),
        *("fe80::1%", "fe80::1%eth0", "fe80::1%-1", "fe80::1%²", "fe80::1%99999999999"),
    ],
)
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (that of inet_pton() is one too)
        bytes_of_text(text)
