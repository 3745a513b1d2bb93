"""The values that this room hands out: statements, idle times, and what tells a program."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from twdiag.errors import TwdiagError

TOPICS: Final = frozenset(
    {"closes-first", "keep-alive", "pool", "close-wait", "accept-queue", "restart", "reload"}
)
"""What a statement can be about."""

SIDES: Final = ("server", "client")
"""The two parts a program plays: it accepts connections, or it makes them."""


class SoftwareFileError(TwdiagError):
    """A file of this folder is not what the loader expects: a mistake in twdiag itself."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One verified fact about a program.

    `setting` decides it and `default` is its value as shipped, both empty where there is none;
    `change` is what to write where; `cost` is what that costs; `source` is where it is documented.
    `by_design` says what it does with sockets that nobody watches and yet are not forgotten, empty
    where there are none.
    """

    text: str
    setting: str
    default: str
    change: str
    cost: str
    source: str
    topic: str
    by_design: str = ""


@dataclass(frozen=True, slots=True)
class Idle:
    """How long one end lets a connection idle as shipped, and the setting that decides it.

    `seconds` is None where this end never closes it.  `since` and `before` name the first version
    with this value and the first without, both empty where it always was so; `condition` says when
    it holds, empty where it always does.
    """

    seconds: float | None
    setting: str
    source: str
    since: str = ""
    before: str = ""
    condition: str = ""

    @property
    def versions(self) -> str:
        """For which versions this holds: "since 7.0.0", "before 7.0.0", "1.19 to before 2.0"."""
        if self.since and self.before:
            return f"{self.since} to before {self.before}"
        if self.before:
            return f"before {self.before}"
        return f"since {self.since}" if self.since else ""


@dataclass(frozen=True, slots=True)
class Head:
    """What tells a program: the part of its file that is cheap to read.

    `processes` are patterns, as in fnmatch(3), of the name of a process; `commands` of its whole
    command line.  Both are empty where neither tells the program for sure.  `aliases` are other
    names that people ask for it by.
    """

    name: str
    title: str
    processes: tuple[str, ...]
    commands: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def matches(self, process_name: str, command_line: str) -> bool:
        """Return whether a process, by its name and command line, is this program."""
        return any(fnmatchcase(process_name, p) for p in self.processes) or any(
            fnmatchcase(command_line, p) for p in self.commands
        )


@dataclass(frozen=True, slots=True)
class Software:
    """A program and what is known of its two sides.

    `idle_timeouts` tell when it closes an idle connection that it accepted, `keeps_idle` how long
    it may still send a request on one that it made.  The value of current versions comes first.
    """

    head: Head
    server: tuple[Statement, ...]
    client: tuple[Statement, ...]
    idle_timeouts: tuple[Idle, ...] = ()
    keeps_idle: tuple[Idle, ...] = ()

    @property
    def name(self) -> str:
        """Its name here: the file's name without .toml."""
        return self.head.name

    @property
    def title(self) -> str:
        """Its name as its makers write it."""
        return self.head.title

    @property
    def processes(self) -> tuple[str, ...]:
        """The patterns of its process names."""
        return self.head.processes

    def advice(self, side: str, topic: str) -> tuple[Statement, ...]:
        """Return the statements about one topic of one side, most useful first."""
        if side not in SIDES or topic not in TOPICS:
            raise ValueError(f"no such side or topic: {side!r}, {topic!r}")
        statements = self.server if side == "server" else self.client
        return tuple(s for s in statements if s.topic == topic)


def may_race(server: Idle, client: Idle) -> bool:
    """Return whether a client's next request can meet the server's close.

    It can where the server's idle time is over before the client's, or at the same time.
    """
    if server.seconds is None:
        return False
    return client.seconds is None or client.seconds >= server.seconds
