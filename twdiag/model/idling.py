"""How the connections of listeners idle, and how the idle ones end: what a rule may judge.

No I/O.  Idle is a connection over which no data passes, in either direction.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LEAST_IDLE: Final = 0.2
"""A shorter pause, in seconds, is a part of a request and its answer, not an idle connection.

An acknowledgement can be 40 ms late and a slow answer comes in pieces; no idle timeout is as short.
"""


class Standing(NamedTuple):
    """An established connection of a listener, as one look shows it.

    `idle` is for how many seconds no data has passed; `answered` says that this end sent last, so
    that the next word is the client's.  `received` are the bytes of data that came so far.
    """

    local: str
    local_port: int
    remote: str
    remote_port: int
    cookie: int
    idle: float
    answered: bool
    received: int


class IdleEnd(NamedTuple):
    """A connection of a listener that this end closed first while it was idle.

    `ended_at` is Unix time, `idle` seconds.  `reused_after` is the longest pause, of those that
    looks at it show, after which its client had sent again, at least; None where none was seen.
    `requests` are those that it carried, at most; None unseen.  `lost` says that another request
    met the close; `late` that data did of which nobody can say whether it was one, or a client's
    last words; `client` is the process at the other end, where that is on this host too.
    """

    ended_at: float
    idle: float
    remote: str
    reused_after: float | None = None
    requests: int | None = None
    lost: bool = False
    late: bool = False
    client: str | None = None


class Idling(NamedTuple):
    """The idle connections of one local end.

    `ends` are those that this end closed first, in the order of time, `by_peers` for how many
    seconds those were idle that the peers closed first.  `open_for` is the longest idle time of one
    that was seen open and answered, None where none was.
    """

    local: str
    local_port: int
    ends: tuple[IdleEnd, ...]
    by_peers: tuple[float, ...] = ()
    open_for: float | None = None


class Watched(NamedTuple):
    """How connections idled and ended during so many seconds.

    `sees_lost` says that data that met a close would have been seen, whoever sent it; without it
    that is seen of clients of the same network namespace only.
    """

    seconds: float
    idling: tuple[Idling, ...]
    sees_lost: bool = False
