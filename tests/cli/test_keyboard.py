"""Keys out of bytes: whole ones, and those that come in parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.cli.keyboard import keys_of


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"jjk", ["j", "j", "k"]),
        (b"\x1b[A\x1b[B", ["\x1b[A", "\x1b[B"]),
        (b"\x1bOA", ["\x1bOA"]),
        (b"\x1b[6~x", ["\x1b[6~", "x"]),
        (b"\x1b[1;5A", ["\x1b[1;5A"]),
        ("ü語".encode(), ["ü", "語"]),
        (b"\r\n\x03\x7f", ["\r", "\n", "\x03", "\x7f"]),
        (b"\x1bx", ["\x1b", "x"]),
        (b"", []),
    ],
)
def test_keys_are_told_apart(data: bytes, keys: list[str]) -> None:
    assert keys_of(data) == (keys, b"")


@pytest.mark.parametrize("data", [b"\x1b", b"\x1b[", b"\x1b[1;", b"\x1bO", "語".encode()[:2]])
def test_what_is_begun_waits_for_the_rest_unless_there_is_none(data: bytes) -> None:
    assert keys_of(b"a" + data) == (["a"], data)
    keys, rest = keys_of(data, no_more=True)
    assert keys[0][0] in ("\x1b", "\ufffd")
    assert rest == b""


PRESSED = st.lists(
    st.sampled_from(["\x1b[A", "\x1bOB", "\x1b[6~"])
    | st.characters(codec="utf-8", exclude_characters="\x1b"),
    max_size=12,
)


@given(PRESSED, st.data())
def test_keys_are_the_same_however_their_bytes_come(
    pressed: list[str], data: st.DataObject
) -> None:
    sent = "".join(pressed).encode()
    found: list[str] = []
    rest = b""
    while sent:
        number = data.draw(st.integers(1, len(sent)))
        keys, rest = keys_of(rest + sent[:number])
        sent = sent[number:]
        found += keys
    assert (found, rest) == (pressed, b"")


@given(st.binary(max_size=40))
def test_no_bytes_break_it_or_get_lost_at_the_end(data: bytes) -> None:
    keys, rest = keys_of(data)
    assert data.endswith(rest)
    more, left = keys_of(rest, no_more=True)
    assert left == b""
    assert bool(keys or more) == bool(data)
