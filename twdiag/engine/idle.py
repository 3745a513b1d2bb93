"""Watch how connections idle meanwhile: a look at the open ones from time to time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from twdiag.analysis.closes import end_of
from twdiag.analysis.idle_watch import IdleWatch
from twdiag.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from twdiag.engine.following import Followed
    from twdiag.model.closes import Close
    from twdiag.model.idling import Watched

_MOST_SOCKETS: Final = 20_000
"""With more of them a look would take as long as the trace buffer has room for."""

_OFTEN: Final = 0.25
SHARE: Final = 0.02
"""The share of a core that looks may take."""


class IdleFollower:
    """Gathers how connections idle, from their ends and from a look at open ones now and then."""

    def __init__(
        self, ports: Collection[int], say: Callable[[str], None], share: float | None = None
    ) -> None:
        self._watch = IdleWatch()
        self._ports = ports
        self._say = say
        self._share = SHARE if share is None else share
        self._next = 0.0
        self._sees_lost = False

    def look(self) -> None:
        """Look, if it is time to."""
        if time.monotonic() < self._next:
            return
        began = time.process_time()
        from twdiag.sources.live.sockets.idling import read_standing

        try:
            if _sockets() > _MOST_SOCKETS:
                self._give_up(f"more than {_MOST_SOCKETS:,} sockets are in use")
                return
            at = time.time()
            found = read_standing(self._ports)
        except SourceError as error:
            self._give_up(error.what)
            return
        self._watch.look(found.standing, found.ports, at)
        took = time.process_time() - began
        self._next = time.monotonic() + max(_OFTEN, took / self._share)

    def take_in(self, closes: Iterable[Close], followed: Followed) -> None:
        """Take in connections that have ended, and RSTs to data for some of them."""
        for close in closes:
            self._watch.add(close)
        for reset in followed.refused():
            local, remote = end_of(reset.local), end_of(reset.remote)
            if local is not None and remote is not None:
                self._watch.late_data((*local, *remote), followed.clock.unix(reset.at))
        self._sees_lost = followed.sees_lost

    def watched(self, seconds: float, since: float = 0.0) -> Watched:
        """Return what was gathered in so many seconds, and the ends since a Unix time."""
        return self._watch.watched(seconds, sees_lost=self._sees_lost, since=since)

    def _give_up(self, why: str) -> None:
        self._next = float("inf")
        self._say(f"{why}: how long connections pause between requests was not looked at")


def _sockets() -> int:
    """Return how many sockets of this namespace are more than mini-sockets, 0 where unseen."""
    from twdiag.sources.live.proc import parse_sockstat, read_text

    names = ("/proc/net/sockstat", "/proc/net/sockstat6")
    numbers = parse_sockstat("\n".join(read_text(name) or "" for name in names))
    return numbers.get("TCP.inuse", 0) + numbers.get("TCP6.inuse", 0)
