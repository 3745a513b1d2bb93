"""Which TCP states the sockets of this namespace are in, for builders that wait for one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))


def count_states(local_port: int | None = None) -> Counter[State]:
    """Count the sockets of each state, of one local port or of all."""
    rows = _rows()
    return Counter(state for port, state in rows if local_port in (None, port))


def _rows() -> Iterator[tuple[int, State]]:
    for table in _TABLES:
        # A kernel without IPv6 has no tcp6.
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state = line.split(maxsplit=4)[:4]
            yield int(local.rpartition(":")[2], 16), State(int(state, 16))
