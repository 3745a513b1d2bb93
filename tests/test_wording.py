"""Numbers as sentences have them, and text from outside made harmless."""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twdiag.wording import (
    between,
    command_of,
    count,
    duration,
    endpoint,
    quoted,
    rate,
    share,
    visible,
)

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(ANY_TEXT)
@example(BIDI + "\u2028\u2029\x85\x7f\x1b[2J\x9b31m\r\n\t\x00\ud800\udcff\ufeff\u200b\U000e0041")
def test_nothing_that_acts_on_a_terminal_survives(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    for character in shown:
        category = unicodedata.category(character)
        assert category not in ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"), hex(ord(character))
    assert visible(shown) == shown
    shown.encode()


FILE_NAMES = st.binary(max_size=20).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@settings(max_examples=15)
@given(st.lists(FILE_NAMES | st.sampled_from(["a b", "it's", "\x1b1", "\u202e$(x)", "\n\\"])))
def test_a_pasted_command_has_the_same_words(words: list[str]) -> None:
    command = command_of(["printf", "%s\\0", "begin", *words])
    assert visible(command) == command
    said = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert said == b"".join(os.fsencode(word) + b"\0" for word in ("begin", *words))


@given(ANY_TEXT)
def test_a_quoted_word_can_be_shown(text: str) -> None:
    assert visible(quoted(text)) == quoted(text)


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S"), include_characters=" \xa0")))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nginx: worker", "nginx: worker"),
        ("café [red] | 猫", "café [red] | 猫"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        ("\x9b", "\\x9b"),
        ("\u202eexe", "\\u202eexe"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("", ""),
    ],
)
def test_what_could_act_is_written_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 sockets"), (1, "1 socket"), (2, "2 sockets"), (27104, "27,104 sockets")],
)
def test_counts(number: int, words: str) -> None:
    assert count(number, "socket") == words


def test_counts_of_irregular_things() -> None:
    assert count(1, "process", "processes") == "1 process"
    assert count(3, "process", "processes") == "3 processes"


@pytest.mark.parametrize(
    ("per_second", "words"),
    [
        (0, "0/s"),
        (0.44, "0.4/s"),
        (5.7, "5.7/s"),
        (10, "10/s"),
        (470.4, "470/s"),
        (5000, "5,000/s"),
    ],
)
def test_rates(per_second: float, words: str) -> None:
    assert rate(per_second) == words


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@example((29, 100))
@example((57, 100))
@example((28_231, 28_232))
def test_a_share_is_the_whole_percents_that_are_reached(part: tuple[int, int]) -> None:
    used, ports = part
    words = share(used / ports)
    if 100 * used >= ports:
        assert words == f"{100 * used // ports} %"
    else:
        assert 0 <= float(words.removesuffix(" %")) <= 1
    assert (words == "100 %") == (used == ports)


def test_small_and_large_shares() -> None:
    assert share(0.004) == "0.4 %"
    assert share(0) == "0 %"
    assert share(1.5) == "150 %"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (9.4, "9 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (12_600, "3.5 h"),
        (181_440, "2.1 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (None, None, "of unknown age"),
        (None, 40, "at most 40 s old"),
        (None, 0, "at most 0 s old"),
        (12, None, "at least 12 s old"),
        (0, None, "at least 0 s old"),
        (12, 40, "12 s to 40 s old"),
        (12.1, 12.3, "12 s old"),
        (0, 0, "0 s old"),
    ],
)
def test_ages(low: float | None, high: float | None, words: str) -> None:
    assert between(low, high) == words


def test_endpoints() -> None:
    assert endpoint("10.0.0.5", 5432) == "10.0.0.5:5432"
    assert endpoint("2001:db8::1", 80) == "[2001:db8::1]:80"
    assert endpoint("fe80::1%2", 80) == "[fe80::1%2]:80"
