"""How far each destination has used up the local ports towards it, and when it is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.census.flows import is_loopback
from twdiag.model.ports import DEFAULT_REUSE_DELAY_MS, seconds_until_full
from twdiag.tcp import TIME_WAIT_SECONDS

if TYPE_CHECKING:
    from twdiag.census.groups import Destination
    from twdiag.model import Snapshot
    from twdiag.model.ports import PortBudget

TW_REUSE: Final = "net.ipv4.tcp_tw_reuse"
_REUSE_DELAY: Final = "net.ipv4.tcp_tw_reuse_delay"

# A destination fills from its present rate only if a good part of the ports is already used: ten
# seconds of the sustained rate, at least.  So one in twenty of the ports is worth a look.
WORTH_A_LOOK: Final = 0.05


class Use(NamedTuple):
    """The port use of one destination; `reusable` TIME_WAITs do not stand in connect()'s way."""

    destination: Destination
    ports: int
    used: int
    reusable: int
    recent: float
    hold_seconds: float
    projected: int
    seconds_to_exhaustion: float | None

    @property
    def used_ratio(self) -> float:
        """Used ports, the reusable ones too, as a share of the budget."""
        return self.used / self.ports if self.ports else 1.0

    @property
    def taken_ratio(self) -> float:
        """Ports that connect() cannot get, as a share of the budget."""
        return (self.used - self.reusable) / self.ports if self.ports else 1.0


def uses(snapshot: Snapshot, share: float = WORTH_A_LOOK) -> list[Use]:
    """Return the use of each destination with that share of its ports used, the largest first."""
    budget = snapshot.flows.budget
    least = max(1, int(share * budget.ports))
    delay = snapshot.sysctl(_REUSE_DELAY) or DEFAULT_REUSE_DELAY_MS
    return [
        _use(snapshot, destination, budget, delay)
        for destination in snapshot.flows.destinations(least, delay)
    ]


def reuse_applies(snapshot: Snapshot, destination: Destination) -> bool:
    """Return whether tcp_tw_reuse lets connect() reuse this destination's TIME_WAITs.

    0 never, 1 with timestamps, 2 (the default since 4.19) the same on loopback only.
    """
    if snapshot.sysctl("net.ipv4.tcp_timestamps") == 0:
        return False
    mode = snapshot.sysctl(TW_REUSE)
    return mode == 1 or (mode == 2 and is_loopback(snapshot.sockets, destination.address))


def _use(snapshot: Snapshot, destination: Destination, budget: PortBudget, delay: int) -> Use:
    waiting = destination.time_wait
    reusable = waiting.total - destination.young if reuse_applies(snapshot, destination) else 0
    hold = delay / 1000 if reuse_applies(snapshot, destination) else float(TIME_WAIT_SECONDS)
    held = destination.sockets - waiting.total
    return Use(
        destination,
        budget.ports,
        destination.sockets,
        reusable,
        waiting.recent,
        hold,
        held + round(waiting.recent * hold),
        seconds_until_full(waiting.seconds, held, waiting.recent, budget.ports, hold),
    )
