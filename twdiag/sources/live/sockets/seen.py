"""What a reader of sockets brings back, whichever way it looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.census.adding_up import census_of
from twdiag.census.intake import Intake
from twdiag.named import NamedTuple
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from twdiag.model.census import Census
    from twdiag.model.snapshot import Gap
    from twdiag.model.sockets import Socket


class Seen(NamedTuple):
    """The sockets of one namespace; `gaps` says what this reader did not see."""

    census: Census
    gaps: Sequence[Gap] = ()


class Streamed(NamedTuple):
    """The sockets of one namespace one by one: listeners and bound ones, and all others, lazily."""

    listening: list[Socket]
    connected: Iterator[Socket]


def census_of_sockets(read: Callable[[], Iterable[Socket]], sysctls: Mapping[str, str]) -> Census:
    """Return the census of readable sockets, which are read twice: the listeners come first.

    Raises ValueError where a socket makes no sense.
    """
    intake = Intake((socket for socket in read() if is_unconnected(socket)), sysctls)
    for socket in read():
        if not is_unconnected(socket):
            intake.take(socket)
    return census_of(intake)


def is_unconnected(socket: Socket) -> bool:
    """Return whether a socket listens, or is bound and does not."""
    return socket.state is State.LISTEN or socket.bound
