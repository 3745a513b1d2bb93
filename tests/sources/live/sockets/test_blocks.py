"""A block gives back its rows and hands each to an intake once, whatever the bytes."""

from __future__ import annotations

import contextlib
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twdiag.census.adding_up import census_of
from twdiag.census.intake import Intake
from twdiag.errors import SourceError
from twdiag.sources.live.sockets.blocks import Block, hand_over
from twdiag.sources.live.sockets.inet_diag import Dump
from twdiag.tcp import State

from .wire import BY_FAMILY, INFO, MANY, Row, done, dumps, message, rows

CONNECTED = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
V4, V6 = 2, 10
MAPPED = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 9])
REMOTE = b"\x20\x01\x0d\xb8" + bytes(11) + b"\7"


def block_of(*wanted: Row) -> Block:
    raw = [message(BY_FAMILY, row.body) for row in wanted]
    return Block(b"".join(raw), len(raw[0]))


def census(*datagrams: bytes) -> tuple[Intake, Dump]:
    intake, dump = Intake((), {}), Dump(1)
    for datagram in datagrams:
        for block in dump.feed(datagram):
            hand_over(block, intake)
    return intake, dump


@MANY
@given(st.lists(rows(CONNECTED), max_size=12), st.integers(1, 9), st.integers(1, 4))
def test_no_row_is_lost_or_doubled(wanted: list[Row], times: int, cut: int) -> None:
    wanted = [row for row in wanted if row.state in CONNECTED]
    unique = [  # no other states have the timer of a mini-socket
        Row(**{**vars(row), "cookie": n + 1, "timer": row.timer if row.state in (5, 6) else 0})
        for n, row in enumerate(wanted)
    ]
    messages = [message(BY_FAMILY, row.body) for row in unique] * times
    datagrams = [b"".join(messages[at : at + cut]) for at in range(0, len(messages), cut)]
    intake, _ = census(*datagrams, done())
    found = census_of(intake)
    expected: Counter[State] = Counter()
    for row in unique:
        state = State({12: 3}.get(row.state, row.state))
        kept = row.state in (2, 4, 5, 8, 9, 11) and row.timer != 3
        kept |= row.state == 1 and not row.inode  # it waits for accept()
        expected[state] += 1 if kept else times  # a kept one that a dump repeats counts once
    assert found.states == expected
    assert {s.cookie for s in found.sockets} <= set(range(1, len(unique) + 1))
    assert set(found.examples) == set(expected)


@pytest.mark.parametrize("info", [False, True])
def test_ages_stay_with_kept_sockets(info: bool) -> None:
    attributes = ((INFO, bytes(44) + bytes(range(16)) + bytes(220)),) if info else ()
    waiting = Row(state=8, cookie=5, attributes=attributes)
    (found,) = block_of(waiting).sockets()
    assert (found.info and tuple(found.info)) == waiting.ages


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("mapped", ["source", "destination", "neither", "both"])
def test_every_mix_of_mapped_and_other_ends_is_a_row(mapped: str, count: int) -> None:
    source = MAPPED if mapped in ("source", "both") else REMOTE
    destination = MAPPED if mapped in ("destination", "both") else REMOTE
    row = Row(V6, 6, source, 33_000, destination, 443, timer=3, expires=59_500)
    intake = Intake((), {})
    hand_over(block_of(*[row] * count), intake)
    ((end,)) = census_of(intake).destinations
    assert end.sockets == count
    assert end.source == ("10.0.0.9" if source == MAPPED else "2001:db8::7")
    assert end.address == ("10.0.0.9" if destination == MAPPED else "2001:db8::7")


def test_families_mix_in_one_block() -> None:
    rows = [
        Row(V4, 6, bytes([10, 0, 0, 9]), 33_000, bytes([10, 0, 0, 9]), 443, timer=3),
        Row(V6, 6, MAPPED, 33_000, MAPPED, 443, timer=3),
        Row(V6, 6, REMOTE, 33_000, REMOTE, 443, timer=3),
    ]
    intake = Intake((), {})
    hand_over(block_of(*rows * 50), intake)
    found = {d.source: d.sockets for d in census_of(intake).destinations}
    assert found == {"10.0.0.9": 100, "2001:db8::7": 50}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [({"family": 1}, "address family 1"), ({"state": 0}, "state 0"), ({"state": 14}, "state 14")],
)
def test_one_row_of_nonsense_stops_the_whole_block(bad: dict[str, int], complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        hand_over(block_of(Row(), Row(**bad), Row()), Intake((), {}))


def damaged(random: Random, datagrams: list[bytes]) -> list[bytes]:
    """Return a dump with bytes changed, cut out, doubled or exchanged."""
    raw = bytearray(b"".join(datagrams))
    for _ in range(random.randint(1, 3)):
        at, kind = random.randrange(len(raw)), random.choice((0, 0, 1, 1, 2, 3, 4))
        if kind == 0:
            raw[at] = random.randrange(256)
        elif kind == 1:
            raw[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            del raw[at : at + random.randint(1, 100)]
        elif kind == 3:
            raw[at:at] = raw[at : at + random.randint(1, 100)]
        else:
            raw[at : at + 4] = random.choice((bytes(4), b"\xff" * 4, b"\x10\0\0\0", b"X\0\0\0"))
        if not raw:
            break
    return [bytes(raw if random.random() < 0.9 else raw[: random.randint(0, len(raw))])]


# To make a dump costs ten times what it takes to damage and read it: each is damaged in ten ways.
@settings(MANY, max_examples=300)
@given(dumps(), st.lists(st.integers(0, 1 << 32), min_size=10, max_size=10))
def test_damage_is_an_error_or_a_census_and_nothing_else(
    dump: tuple[list[Row], list[bytes]], seeds: list[int]
) -> None:
    for seed in seeds:
        with contextlib.suppress(SourceError):
            intake, _ = census(*damaged(Random(seed), dump[1]), done())
            census_of(intake)
