"""What each local port is: one for connect() to hand out, a listener's, or another fixed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.columns import looked_up

if TYPE_CHECKING:
    from array import array
    from collections.abc import Collection

    from twdiag.budget import PortBudget

USABLE, LISTENING, FIXED = 1, 2, 4
_FIRST_NUMBER: Final = 8
_END: Final = 128


class PortKinds:
    """A kind, one byte, for each port: its flags alone, or the number of a listening port.

    USABLE ports may be handed out by connect(), on LISTENING ports somebody listens, FIXED ports
    are outside of ip_local_port_range.  The lowest 120 listening ports have a kind of their own,
    `number`, so that one look-up of a row's port tells its listener too.  Kinds are below 128.
    """

    def __init__(self, budget: PortBudget, listening: Collection[int]) -> None:
        kinds = bytearray(budget.usable_mask)
        kinds[1 : budget.low] = bytes([FIXED]) * (budget.low - 1)
        kinds[budget.high + 1 :] = bytes([FIXED]) * (0xFFFF - budget.high)
        flags = bytearray(range(_FIRST_NUMBER)) + bytes(256 - _FIRST_NUMBER)
        self.number = dict(zip(sorted(listening), range(_FIRST_NUMBER, _END), strict=False))
        for port in listening:
            kinds[port] |= LISTENING
        for port, number in self.number.items():
            flags[number] = kinds[port]
            kinds[port] = number
        self._kinds = bytes(kinds)
        self._flags = bytes(flags)

    def of(self, ports: array[int]) -> bytes:
        """Return the kind of each port of a column."""
        return looked_up(self._kinds, ports)

    def having(self, flag: int) -> bytes:
        """Return a table to translate kinds by: 1 for those with a flag, 0 for the others."""
        return bytes(1 if flags & flag else 0 for flags in self._flags)


def only(kinds: Collection[int]) -> bytes:
    """Return a table to translate kinds by: 1 for these kinds, 0 for the others."""
    return bytes(1 if kind in kinds else 0 for kind in range(256))
