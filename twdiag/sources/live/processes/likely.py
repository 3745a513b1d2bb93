"""In which order to search the processes for the holders of sockets: the likely ones first."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.sources.live.proc import all_pids, read_stat, read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_MANY_SOCKETS: Final = 20
_MOST_ANCESTORS: Final = 8
# Which descriptors are looked at before a process is searched: 8, 13, 18, 27, 40, 61, 90 and so on
# up to a million, even and odd ones in turn because a proxy opens its two ends in pairs.  They are
# the same in every process: what a child inherited has the same number in its parent, so that both
# are found or neither is.
_PROBED: Final = tuple(int(8 * 1.5**step) // 2 * 2 + step % 2 for step in range(30))


def likely_first(
    cgroups: Collection[int], uids: Collection[int], links: Collection[str], until: float
) -> Iterator[int]:
    """Yield the number of every process, the likely ones first; `links` name the sockets sought."""
    if len(links) < _MANY_SOCKETS:
        for group in _groups(cgroups, uids, len(links)):
            yield from sorted(group)
        return
    searched: set[int] = set()
    for group in _groups(cgroups, uids, len(links)):
        for pid in _hits_first(group, links, until):
            if pid not in searched:
                searched.add(pid)
                yield pid


def _groups(
    cgroups: Collection[int], uids: Collection[int], sockets: int
) -> Iterator[Collection[int]]:
    """Yield the numbers of all processes in groups, the likely ones first.

    Reading a process's descriptors costs a system call for each of them, while its cgroup, its user
    and (since Linux 6.2) the number of its descriptors cost next to nothing.  Where many sockets
    are sought, most of them are one process's, which has at least as many descriptors.
    """
    rest = set(all_pids())
    members = cgroup_members(cgroups) & rest
    # A cgroup with most of the host's processes (the root, say) narrows nothing down.
    if 2 * len(members) < len(rest):
        yield members
        rest -= members
    if sockets >= _MANY_SOCKETS:
        large = {pid for pid in rest if _descriptors(pid) >= sockets}
        yield large
        rest -= large
    same_user = {pid for pid in rest if _uid_of(pid) in uids}
    yield same_user
    yield rest - same_user


def _hits_first(group: Collection[int], links: Collection[str], until: float) -> Iterator[int]:
    """Yield the processes of a group, those first in which a glance finds a wanted socket.

    A leak soon fills most of a process's descriptors, so that a few of them tell.  In vain, looking
    costs a fifteenth of searching 200 descriptors, and less of more.  Each process found goes
    before the next look, which the caller may not need, and after its relatives, which share its
    listener with it.
    """
    hits = set()
    for pid in sorted(group):
        if time.monotonic() >= until:
            break
        if pid not in hits and _is_hit(pid, links):
            hits.add(pid)
            yield from _relatives(pid)
            yield pid
    yield from sorted(set(group) - hits)


def _relatives(pid: int) -> Iterator[int]:
    """Yield the leaders of a process's session and group, and its ancestors, the eldest first.

    A worker that forked twice is a child of init, but still in the session of its master.
    """
    ancestors: list[int] = []
    leaders: tuple[int, ...] = ()
    for _ in range(_MOST_ANCESTORS):
        stat = read_stat(ancestors[-1] if ancestors else pid)
        if stat is None:
            break
        leaders = leaders or (stat.session, stat.group)
        if stat.parent <= 1:
            break
        ancestors.append(stat.parent)
    yield from (leader for leader in leaders if leader > 1)
    yield from reversed(ancestors)


def _is_hit(pid: int, links: Collection[str]) -> bool:
    """Say whether one of a few descriptors of a process is a wanted socket.

    Each open() takes the lowest free number, so that a number which is free is mostly the end of
    the table, or else one hole in it.
    """
    absent = 0
    for number in _PROBED:
        try:
            if os.readlink(f"/proc/{pid}/fd/{number}") in links:
                return True
        except FileNotFoundError:
            absent += 1
            if absent > 1:
                return False
        except OSError:
            return False  # it may not be read, or is gone
    return False


def _descriptors(pid: int) -> int:
    """Return the number of a process's descriptors, 0 before Linux 6.2 and where it is hidden."""
    try:
        return os.stat(f"/proc/{pid}/fd").st_size
    except OSError:
        return 0


def _uid_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def cgroup_members(cgroups: Collection[int], root: str = "/sys/fs/cgroup") -> set[int]:
    """Return the processes of some cgroups (version 2), whose number is that of their folder."""
    members: set[int] = set()
    folders = [root] if cgroups else []
    missing = set(cgroups)
    while folders and missing:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                inside = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for entry in inside:
            folders.append(entry.path)
            if entry.inode() in missing:
                missing.discard(entry.inode())
                text = read_text(f"{entry.path}/cgroup.procs") or ""
                members.update(int(word) for word in text.split() if word.isdecimal())
    return members
