"""The errors that logs are full of, from messages.toml, and how they are found in a line."""

from __future__ import annotations

import errno
import re
import sys
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FILE: Final = Path(__file__).parent / "messages.toml"

GROUPS: Final = ("kernel", "log", "client", "proxy", "outside")
"""Where an error is met; the page error-messages has a list for each but the last."""

_LISTS: Final = frozenset({"words", "haproxy", "http"})
_TEXTS: Final = frozenset({"name", "group", "error", "who", "means", "run", "shows", "read"})
_TOKEN: Final = re.compile(r"[^\W_]+")
_NEAR: Final = 200
"""How many letters may lie between the parts of one error, such as bind() and what it met."""

_MOST_PLACES: Final = 100
"""At how many places of a line the other parts are looked for: a line may be of any length."""

_NUMBER: Final = re.compile(
    r"(?:errno\W{0,2}|os error |\berror (?=\d\d)|(?<![\w:])\((?=\d\d+(?::|\)\W*$)))(\d{1,3})\b",
    re.IGNORECASE,
)
"""How a line of a log writes the number of an error in errno(3)."""


_EXAMPLE_PORT: Final = "8080"
"""What messages.toml has for a port that the line has to name."""

_UPSTREAM: Final = re.compile(r'\bupstream: "[a-z]{2,8}://[^/\s"]*:([0-9]{1,5})[/"]')
"""The server behind nginx: the port that its line is about, whatever else is in it."""

_ARROW: Final = re.compile(
    r"[\w.\]]:[0-9]{1,5} ?-> ?[\w.\[][\w.:\]-]{0,80}:([0-9]{1,5})\b(?![.:]\w)"
)
"""How Go and others write a connection, from here to there."""

_PORT: Final = re.compile(
    r"(?:\b\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{2,45}\]|\*|(?<![\w:])::|\blocalhost|(?<!\S))"
    r":([0-9]{1,5})\b(?![.:]\d| \[\d)"
    r"|['\"][^'\"\s]{1,60}['\"], ([0-9]{1,5})\)"
    r"|\bport[ =:(]{1,2}([0-9]{1,5})\b"
    r"|\b[a-z]{2,8}://[^/\s\":]{1,80}:([0-9]{1,5})\b",
    re.IGNORECASE,
)
"""A port where it cannot be a time of the day; HAProxy's "address:port [date" is its client's."""


@dataclass(frozen=True, slots=True)
class Message:
    """One error: messages.toml says what each of its keys is.

    `words` are ways to write it, each of parts that must all be there; a part is words between
    blanks, and begins and ends with one.
    """

    name: str
    group: str
    error: str
    who: str
    means: str
    words: tuple[tuple[str, ...], ...]
    run: str = ""
    shows: str = ""
    read: str = ""
    haproxy: tuple[str, ...] = ()
    http: tuple[int, ...] = ()
    vague: bool = False

    def with_port(self, port: int) -> Message:
        """Return the message with a port that is known in its command."""
        shows = self.shows.removeprefix("with your port: ").replace(", with its port", "")
        run = self.run.replace(_EXAMPLE_PORT, str(port))
        return self if run == self.run else replace(self, run=run, shows=shows)


@dataclass(frozen=True, slots=True)
class Sighting:
    """An error in a line: where it stands there, and how many letters say so."""

    message: Message
    start: int
    end: int
    letters: int

    def yields_to(self, other: Sighting) -> bool:
        """Return whether the other one is what was meant: longer, and at the same place."""
        inside = other.start <= self.start and self.end <= other.end
        return inside and other.letters > self.letters


@cache
def messages() -> tuple[Message, ...]:
    """Return all errors that are known; raises ValueError for what the file must not have."""
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    rows = toml.loads(_FILE.read_text(encoding="utf-8"))["message"]
    return tuple(_message(row) for row in rows)


def _message(row: dict[str, Any]) -> Message:
    if set(row) - _LISTS - _TEXTS - {"vague"} or row["group"] not in GROUPS:
        raise ValueError(f"messages.toml: {row['name']}: a key or a group that there is not")
    words = tuple(tuple(map(plain_words, way.split(" & "))) for way in row["words"])
    states, codes = tuple(row.get("haproxy", ())), tuple(row.get("http", ()))
    return Message(**{**row, "words": words, "haproxy": states, "http": codes})


def plain_words(text: str) -> str:
    """Return the words of a text in lower case with one blank around each: " reset by peer "."""
    return f" {' '.join(_TOKEN.findall(text.casefold()))} "


def found_in(line: str) -> list[Sighting]:
    """Return the errors in a line, the one that is told with most letters first.

    Without any in words, the number of one counts: "(111)", "os error 99".
    """
    longest: dict[str, Sighting] = {}
    for one in (*_Line(line).in_words(), *_in_columns(line)):
        known = longest.get(one.message.name)
        if known is None or known.letters < one.letters:
            longest[one.message.name] = one
    found = list(longest.values())
    found = [one for one in found if not any(map(one.yields_to, found))]
    found = [one for one in found if not one.message.vague] or found
    return sorted(found, key=lambda one: -one.letters) or list(_by_number(line))


def _by_number(line: str) -> Iterator[Sighting]:
    for match in _NUMBER.finditer(line):
        code = plain_words(errno.errorcode.get(int(match[1]), ""))
        known = [message for message in messages() if (code,) in message.words]
        if known:
            yield from (Sighting(one, *match.span(1), len(match[1])) for one in known)
            return


class _Line:
    """A line, and its words with where each of them begins."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._tokens = list(_TOKEN.finditer(line))
        folded = [token[0].casefold() for token in self._tokens]
        self._words = f" {' '.join(folded)} "
        self._known = set(folded)
        self._starts = [0]
        for word in folded:
            self._starts.append(self._starts[-1] + len(word) + 1)

    def in_words(self) -> Iterator[Sighting]:
        """Yield where an error stands, in each of the ways to write it."""
        ways = _ways()
        for word in self._known & ways.keys():
            for message, way in ways[word]:
                if all(part in self._words for part in way):
                    found = self._way(message, way)
                    if found is not None:
                        yield found

    def _way(self, message: Message, way: tuple[str, ...]) -> Sighting | None:
        """Return the first place where all parts stand near each other."""
        main = max(way, key=len)
        for start in _places(self._words, main):
            low = max(0, start - _NEAR)
            near = self._words[low : start + len(main) + _NEAR]
            ats = [
                start if part == main else _nearest(near, part, start - low, low) for part in way
            ]
            if min(ats) >= 0:
                first = min(ats)
                last = max(at + len(part) for at, part in zip(ats, way, strict=True))
                letters = sum(map(len, way))
                return Sighting(message, *self._span(first, last), letters)
        return None

    def _span(self, first: int, last: int) -> tuple[int, int]:
        """Return where words lie in the line itself, from those that lie so among the words."""
        begins = self._tokens[bisect_right(self._starts, first) - 1].start()
        return begins, self._tokens[bisect_right(self._starts, last - 2) - 1].end()


def _places(words: str, part: str) -> Iterator[int]:
    at = -1
    for _ in range(_MOST_PLACES):
        at = words.find(part, at + 1)
        if at < 0:
            return
        yield at


def _nearest(near: str, part: str, to: int, low: int) -> int:
    """Return where a part stands nearest to a place, -1 if nowhere."""
    before, behind = near.rfind(part, 0, to + 1), near.find(part, to)
    known = [at for at in (before, behind) if at >= 0]
    return low + min(known, key=lambda at: abs(at - to)) if known else -1


@cache
def _ways() -> dict[str, list[tuple[Message, tuple[str, ...]]]]:
    """Return the ways to write the errors, by the longest word of each: a line has few of those."""
    ways: dict[str, list[tuple[Message, tuple[str, ...]]]] = {}
    for message in messages():
        for way in message.words:
            word = max(" ".join(way).split(), key=len)
            ways.setdefault(word, []).append((message, way))
    return ways


def _in_columns(line: str) -> Iterator[Sighting]:
    """Yield what an access log has as a status code, and HAProxy's log as a state."""
    for pattern, meanings in (_statuses(), _terminations()):
        match = pattern.search(line)
        if match:
            yield Sighting(meanings[match[1]], *match.span(1), len(match[1]))


@cache
def _statuses() -> tuple[re.Pattern[str], dict[str, Message]]:
    meanings = {str(code): message for message in messages() for code in message.http}
    return re.compile(_status("|".join(meanings)), re.IGNORECASE), meanings


@cache
def _terminations() -> tuple[re.Pattern[str], dict[str, Message]]:
    meanings = {state: message for message in messages() for state in message.haproxy}
    return re.compile(_termination("|".join(meanings))), meanings


def _status(codes: str) -> str:
    """Return how a status code stands in a line; a bare number may be anything."""
    before = (
        r"^\s*(?:HTTP\s+)?",
        r'HTTP/[\d.]{1,3}"?\s',
        r"\bstatus(?:[ _-]?code)?[\"':= ]{1,4}",
        r"\b(?:HTTP|error|response|code)[:= ]{1,2}",
        # A load balancer's log: three times, its status and the target's.
        r"(?: -?[\d.]{1,9}){3} ",
    )
    return rf"(?:{'|'.join(before)})({codes})(?![\w.])"


def _termination(states: str) -> str:
    """Return how HAProxy's log has a state: four characters, or two before the connections."""
    conns = r"(?=\s+\d+/\d+/)"
    rest = rf"--|[NIDVEOU-][NIUPRD-](?:{conns}|$)|{conns}"
    return rf"(?:^|\s)({states})(?:{rest})"


def port_in(line: str) -> int | None:
    """Return the port that a line is about, None where it names none or several."""
    for pattern in (_UPSTREAM, _ARROW, _PORT):
        found = {int(next(filter(None, match.groups()))) for match in pattern.finditer(line)}
        if found:
            port = found.pop()
            return port if not found and 0 < port < 65_536 else None
    return None


def excerpt(line: str, found: Sighting, most: int) -> str:
    """Return the part of a line around an error, at most so many characters."""
    length = min(found.end - found.start, most - 6)
    start = max(0, found.start - (most - 6 - length) // 2)
    end = min(len(line), start + most - 6)
    start = max(0, min(start, end - (most - 6)))
    return f"{'...' if start else ''}{line[start:end].strip()}{'...' if end < len(line) else ''}"


def by_name(words: str) -> Message | None:
    """Return the message of a name, in any spelling."""
    wanted = plain_words(words)
    return next((one for one in messages() if plain_words(one.name) == wanted), None)


def of_group(group: str) -> Iterable[Message]:
    """Return the messages of a group, in the order of the file."""
    return (message for message in messages() if message.group == group)
