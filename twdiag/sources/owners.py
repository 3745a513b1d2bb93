"""Find which processes hold a few sockets: /proc/PID/fd, and psutil for what they are."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from twdiag.model import Gap, Owner
from twdiag.sources.proc import read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SOCKET_LINK: Final = re.compile(r"socket:\[(\d+)\]")
_FD_LIMIT: Final = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)


def read_owners(inodes: Collection[int]) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
    """Return the owners of these socket inodes, and a gap where some could not be found.

    Processes are searched in the order of their numbers, so that of a pre-forking server the parent
    is named; the search stops once every inode has its owner.  A process that vanishes meanwhile or
    may not be read is passed over.
    """
    wanted = {inode for inode in inodes if inode}
    missing = set(wanted)
    found: dict[int, tuple[Owner, ...]] = {}
    denied = 0
    for pid in _pids():
        if not missing:
            break
        try:
            held, fds = _held(pid, wanted)
        except PermissionError:
            denied += 1
            continue
        except OSError:
            continue  # the process is gone
        if not held:
            continue
        owner = describe(pid, fds)
        if owner is None:
            continue
        for inode in held:
            found[inode] = (*found.get(inode, ()), owner)
        missing -= held
    return found, _gaps(len(missing), denied)


def _pids() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return iter(())
    return iter(sorted(int(name) for name in names if name.isdigit()))


def _held(pid: int, wanted: Collection[int]) -> tuple[set[int], int]:
    """Return (wanted inodes that a process holds, its number of open descriptors)."""
    held: set[int] = set()
    folder = f"/proc/{pid}/fd"
    names = os.listdir(folder)
    for name in names:
        try:
            link = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # closed meanwhile
        match = _SOCKET_LINK.fullmatch(link)
        if match and int(match[1]) in wanted:
            held.add(int(match[1]))
    return held, len(names)


def describe(pid: int, fds: int | None = None) -> Owner | None:
    """Return what is known of a process, None where it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            name = process.name()
            user = process.username()
    except psutil.Error:
        return None
    limit = _FD_LIMIT.search(read_text(f"/proc/{pid}/limits") or "")
    return Owner(pid, name, user, fds, int(limit[1]) if limit else None)


def _gaps(missing: int, denied: int) -> list[Gap]:
    if not missing:
        return []
    sockets = "1 socket" if missing == 1 else f"{missing} sockets"
    if denied:
        processes = "1 process" if denied == 1 else f"{denied} processes"
        why = f"the owners of {sockets} are not visible: {processes} may not be read"
        how = "run as root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        return [Gap("owners", why, how, partial=True)]
    why = f"no process visible from here holds {sockets} (another PID namespace, or in transit)"
    # With hidepid the processes of other users are not even listed.
    how = "run on the host rather than in a container" + (", as root" if os.geteuid() else "")
    return [Gap("owners", why, how, partial=True)]
