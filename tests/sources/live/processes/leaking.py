"""Processes that leak sockets, and who a search found or looked at."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twdiag.model.snapshot import Owner

UNKNOWN_INODE = 0xFFFFFFF0
NO_PROCESS = 1 << 22  # one above the largest number that Linux gives


def inode(held: socket.socket) -> int:
    return os.fstat(held.fileno()).st_ino


LEAKED: list[socket.socket] = []


def leak(count: int) -> None:
    """Hold so many sockets until this process ends."""
    LEAKED.extend(socket.socket() for _ in range(count))


def quiet() -> None:
    """Hold many descriptors that are no sockets."""
    for _ in range(150):
        os.dup(0)


def sockets_of(pid: int) -> set[int]:
    """Return the inodes of the sockets that a process holds and this one does not."""
    return _sockets(pid) - _sockets(os.getpid())


def _sockets(pid: int) -> set[int]:
    links = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the scan itself
            links.add(os.readlink(entry.path))
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def reads_of(read: list[str], pid: int) -> int:
    return sum(path.startswith(f"/proc/{pid}/") for path in read)


def owner_pids(found: Mapping[int, Sequence[Owner]]) -> set[tuple[int, ...]]:
    """Return who is named, once for all sockets of the same owners."""
    return {tuple(owner.pid for owner in named) for named in found.values()}
