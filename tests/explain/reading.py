"""Reads a drawn chart back: which state each end is in after each line, and which segments went."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twdiag.tcp import State, parse_state

_POSTS = "│|:"
_SEGMENT = re.compile(
    r"(?P<number>\d+)  (?P<flags>[A-Z,]+) seq=(?P<seq>\d+)"
    r"(?: ack=(?P<ack>\d+))?(?: len=(?P<length>\d+))?"
)


@dataclass(frozen=True)
class Seen:
    """One line of a chart: the words at both ends and what is between them."""

    left: str
    lane: str
    right: str


def read_lines(lines: list[str]) -> list[Seen]:
    """Return every line below the heading, cut at the lifelines of the first one."""
    posts = [i for i, c in enumerate(lines[1]) if c in _POSTS]
    first, last = posts[0], posts[-1]
    seen = []
    for line in lines[1:]:
        assert line[first] in _POSTS, line
        assert line[last] in _POSTS, line
        seen.append(Seen(line[:first], line[first + 1 : last], line[last + 1 :]))
    return seen


def state_of(words: str) -> tuple[bool, State | None]:
    """Return (whether a state is written here, which); "vanished" is written, and no state."""
    name = re.sub(r"you are here|[^A-Za-z0-9_ ]", "", words).strip()
    if not name:
        return False, None
    if name == "vanished":
        return True, None
    state = parse_state(name)
    assert state is not None, words
    return True, state


def histories(lines: list[str]) -> tuple[list[State | None], list[State | None]]:
    """Return the states written at the left end and at the right end, from top to bottom."""
    left: list[State | None] = []
    right: list[State | None] = []
    for seen in read_lines(lines):
        for words, history in ((seen.left, left), (seen.right, right)):
            written, state = state_of(words)
            if written:
                history.append(state)
    return left, right


def segments(lines: list[str]) -> list[dict[str, str]]:
    """Return the segments drawn, in order, as their parts."""
    return [m.groupdict() for seen in read_lines(lines) for m in _SEGMENT.finditer(seen.lane)]
