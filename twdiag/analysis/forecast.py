"""When the ports towards a destination are used up, if its closes go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def seconds_until_full(
    history: Sequence[int], held: int, rate: float, ports: int, hold_seconds: float
) -> float | None:
    """Return in how many seconds all ports are taken at a closing rate, None where never.

    `history` has the TIME_WAITs that began in each of the last 60 seconds, newest last; `held` are
    the other sockets on the tuple, taken as constant; each close holds a port `hold_seconds`.
    TIME_WAITs leave in the order they came, while `rate` new ones arrive each second.
    """
    lasting = list(history)[-max(1, round(hold_seconds)) :]
    waiting = sum(lasting)
    if held + waiting >= ports:
        return 0.0
    for second in range(1, len(lasting) + 1):
        remaining = sum(lasting[second:])
        used = held + remaining + rate * second
        if used >= ports:
            return float(second)
    return None
