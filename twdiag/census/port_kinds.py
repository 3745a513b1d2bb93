"""What each local port is: one for connect() to hand out, a listener's, or another fixed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.census.columns import both, either, looked_up

if TYPE_CHECKING:
    from array import array
    from collections.abc import Collection, Iterable

    from twdiag.model.ports import PortBudget

USABLE, LISTENING, FIXED = 1, 2, 4
_FIRST_NUMBER: Final = 8
_END: Final = 128
_IS_NUMBER: Final = bytes(_FIRST_NUMBER <= kind < _END for kind in range(256))


class PortKinds:
    """A kind, one byte, for each port: its flags alone, or the number of a listening port.

    USABLE ports may be handed out by connect(), on LISTENING ports somebody listens, FIXED ports
    are outside of ip_local_port_range.  The first 60 of the listening ports have a kind of their
    own, `number`, and the next one for IPv6, so that one look-up of a row's port mostly tells its
    listener too.  Kinds are below 128.
    """

    def __init__(self, budget: PortBudget, listening: Iterable[int]) -> None:
        kinds = bytearray(budget.usable_mask)
        kinds[1 : budget.low] = bytes([FIXED]) * (budget.low - 1)
        kinds[budget.high + 1 :] = bytes([FIXED]) * (0xFFFF - budget.high)
        flags = bytearray(range(_FIRST_NUMBER)) + bytes(256 - _FIRST_NUMBER)
        numbers = iter(range(_FIRST_NUMBER, _END, 2))
        self.number: dict[int, int] = {}
        for port in listening:
            kinds[port] |= LISTENING
            number = next(numbers, None)
            if number is not None:
                self.number[port] = number
                flags[number] = flags[number + 1] = kinds[port]
                kinds[port] = number
        self._kinds = bytes(kinds)
        self._flags = bytes(flags)

    def of(self, ports: array[int], ipv6: bytes) -> bytes:
        """Return the kind of each port of a column, given the mask of IPv6 rows."""
        kinds = looked_up(self._kinds, ports)
        return either(kinds, both(kinds.translate(_IS_NUMBER), ipv6)) if 1 in ipv6 else kinds

    def having(self, flag: int) -> bytes:
        """Return a table to translate kinds by: 1 for those with a flag, 0 for the others."""
        return bytes(1 if flags & flag else 0 for flags in self._flags)


def only(kinds: Collection[int]) -> bytes:
    """Return a table to translate kinds by: 1 for these kinds, 0 for the others."""
    return bytes(1 if kind in kinds else 0 for kind in range(256))
