"""Which addresses this network namespace has, from real files and from any text."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.privately import in_private
from twdiag.sources.live.addresses import parse_fib_trie, parse_if_inet6, read_addresses

FIB_TRIE: Final = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.77.0.0
        /24 link UNICAST
     +-- 10.77.0.0/31 1 0 0
        |-- 10.77.0.1
           /32 host LOCAL
     |-- 10.77.0.255
        /32 link BROADCAST
"""


def test_own_addresses_are_read() -> None:
    assert parse_fib_trie(FIB_TRIE) == {"10.77.0.1"}
    line = "00000000000000000000000000000001 01 80 10 80       lo\n"
    assert parse_if_inet6(line + "garbage\n") == {"::1"}
    assert "127.0.0.1" in in_private(read_addresses)


@given(st.text(max_size=200))
def test_any_text_has_addresses_or_none(text: str) -> None:
    assert isinstance(parse_fib_trie(text) | parse_if_inet6(text), frozenset)
