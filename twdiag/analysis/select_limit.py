"""Whether a loop cannot watch its sockets since select() knows small descriptors only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.model.waits import Cause

if TYPE_CHECKING:
    from twdiag.model.waits import Waits

FD_SETSIZE: Final = 1024
"""The size of fd_set in bits, compiled into the C library: select(2), BUGS."""

_CALLS: Final = frozenset({"select", "pselect6", "_newselect"})


def beyond_select(waits: Waits, descriptors: int | None) -> bool:
    """Return whether a process waits in select() for some of its sockets and cannot for the others.

    With more descriptors than an fd_set has bits some have numbers that no select() can watch.
    """
    conclusion = waits.conclusion
    if conclusion is None or conclusion.cause is not Cause.FORGOTTEN:
        return False
    selects = any(group.call in _CALLS for group in waits.groups)
    return selects and descriptors is not None and descriptors > FD_SETSIZE
