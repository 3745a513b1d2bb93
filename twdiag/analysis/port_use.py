"""How far each destination has used up the local ports towards it, and when it is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.analysis.forecast import seconds_until_full
from twdiag.census.addresses import is_loopback
from twdiag.model.ports import DEFAULT_REUSE_DELAY_MS
from twdiag.named import NamedTuple
from twdiag.tcp import TIME_WAIT_SECONDS, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twdiag.model.census import Destination, History
    from twdiag.model.ports import PortBudget

TW_REUSE: Final = "net.ipv4.tcp_tw_reuse"
_REUSE_DELAY: Final = "net.ipv4.tcp_tw_reuse_delay"
_TIMESTAMPS: Final = "net.ipv4.tcp_timestamps"

HOLD_SECONDS: Final = 62
"""How long a TIME_WAIT holds its port: the timer wheel takes up to 2.048 s more (HZ=250)."""

WORTH_A_LOOK: Final = 0.05
"""A destination fills from its present rate only if a good part of the ports is already used: ten
seconds of the sustained rate, at least.  So one in twenty of the ports is worth a look."""


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


def port_uses(
    destinations: Iterable[Destination],
    budget: PortBudget,
    sysctls: Mapping[str, str],
    *,
    forecast: bool = True,
) -> list[Use]:
    """Return the use of each destination, in their order.

    Without `forecast` nobody says when the ports run out: where TIME_WAITs are replaced, their
    number does not grow as they are made.
    """
    return [_use(destination, budget, sysctls, forecast) for destination in destinations]


def reuse_applies(sysctls: Mapping[str, str], address: str) -> bool:
    """Return whether tcp_tw_reuse lets connect() reuse the TIME_WAITs to an address.

    0 never, 1 with timestamps, 2 (the default since 4.19) the same on loopback only.
    """
    if sysctls.get(_TIMESTAMPS) == "0":
        return False
    mode = sysctls.get(TW_REUSE)
    return mode == "1" or (mode == "2" and is_loopback(address))


def _use(
    destination: Destination, budget: PortBudget, sysctls: Mapping[str, str], forecast: bool
) -> Use:
    waiting = destination.tally.time_wait
    hold, reusable = float(HOLD_SECONDS), 0
    if reuse_applies(sysctls, destination.address):
        delay = _milliseconds(sysctls.get(_REUSE_DELAY, "")) or DEFAULT_REUSE_DELAY_MS
        # TIME_WAITs younger than the delay, in whole seconds rounded up, cannot be reused yet.
        young_seconds = (delay + 999) // 1000
        young = sum(waiting.seconds[-young_seconds:])
        hold, reusable = delay / 1000, waiting.total - young
    held = destination.sockets - destination.tally.states.get(State.TIME_WAIT, 0)
    return Use(
        destination,
        budget.ports,
        destination.sockets,
        reusable,
        waiting.recent,
        hold,
        held + round(waiting.recent * hold),
        _seconds_left(waiting, held, budget.ports, hold, forecast),
    )


def _seconds_left(
    waiting: History, held: int, ports: int, hold: float, forecast: bool
) -> float | None:
    """Return when the ports are used up, 0 where they are already."""
    late = waiting.total - sum(waiting.seconds)
    # Those past their time that the timer wheel has not removed yet are the oldest.
    seconds = (late, *(0,) * (HOLD_SECONDS - TIME_WAIT_SECONDS - 1), *waiting.seconds)
    left = seconds_until_full(seconds, held, waiting.recent, ports, hold)
    return left if forecast or left == 0 else None


def _milliseconds(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
