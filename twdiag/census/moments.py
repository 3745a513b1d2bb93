"""The moment of a socket: one byte that tells its state, and of closed ones when they began.

0..60 is a TIME_WAIT: the second of the last minute in which it began, 0 the newest, 60 past its
time and waiting for the kernel's timer wheel.  61..127 is an orphan in FIN_WAIT2: 61 + the whole
seconds it has left.  128 + a state is any other socket.
"""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from twdiag.model.census import MINUTE, History, Tally
from twdiag.model.sockets import TIMER_TIME_WAIT
from twdiag.tcp import State

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping

_DYING: Final = MINUTE
_ORPHAN: Final = _DYING + 1
_OTHER: Final = 128
LONGEST_LEFT: Final = _OTHER - _ORPHAN - 1
"""An orphan that has more seconds left counts as one with so many."""

# A TIME_WAIT without a timer comes from a reader that shows none: nobody knows when it began.
_STATE: Final = bytes(
    _DYING if number == State.TIME_WAIT else _OTHER | number & 0x7F for number in range(256)
)
# By milliseconds left, which are 60,000 at most; a timer past its end has 0.
_SECOND: Final = bytes([_DYING]) + b"".join(
    bytes([MINUTE - s]) * 1000 for s in range(1, MINUTE + 1)
)


def moments_of(states: bytes, timers: bytes, expires: array[int]) -> bytes:
    """Return the moment of each row, given its state, timer and milliseconds until that fires."""
    minis = timers.count(TIMER_TIME_WAIT)
    if minis == 0:
        return states.translate(_STATE)
    if minis == states.count(State.TIME_WAIT) == len(states):
        try:
            # One more item, dropped again: for a single item itemgetter() returns no tuple.
            return bytes(itemgetter(*expires, 0)(_SECOND)[:-1])
        except IndexError:
            pass  # a kernel with a longer TIME_WAIT (Alibaba's tcp_tw_timeout)
    return bytes(map(moment_of, states, timers, expires))


def moment_of(state: int, timer: int, expires: int) -> int:
    """Return the moment of one socket."""
    if state == State.TIME_WAIT:
        return _SECOND[min(expires, MINUTE * 1000)]
    if state == State.FIN_WAIT2 and timer == TIMER_TIME_WAIT:
        return _ORPHAN + min(LONGEST_LEFT, -(-expires // 1000))
    return _OTHER | state


def tally_of(moments: Mapping[int, int]) -> Tally:
    """Return what {moment: sockets} adds up to."""
    states: Counter[State] = Counter()
    seconds: dict[int, int] = {}
    orphans: dict[int, int] = {}
    for moment, count in moments.items():
        if moment >= _OTHER:
            states[State(moment - _OTHER)] += count
        elif moment >= _ORPHAN:
            states[State.FIN_WAIT2] += count
            orphans[moment - _ORPHAN] = count
        else:
            states[State.TIME_WAIT] += count
            seconds[moment] = count
    newest_last = range(MINUTE - 1, -1, -1)
    history = History(tuple(seconds.get(n, 0) for n in newest_last), sum(seconds.values()))
    return Tally(states, history, orphans)
