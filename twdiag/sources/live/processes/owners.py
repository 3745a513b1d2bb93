"""Find which processes hold a few sockets: /proc/PID/fd, and psutil for what they are."""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING, Final

from twdiag.model.snapshot import Gap, Owner
from twdiag.sources.live.proc import read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LONGEST_NAME: Final = 64  # psutil completes a name from argv[0], which a process can set
_MANY_SOCKETS: Final = 20
_MOST_ANCESTORS: Final = 8
# Which descriptors are looked at before a process is searched: 8, 13, 18, 27, 40, 61, 90 and so on
# up to a million, even and odd ones in turn because a proxy opens its two ends in pairs.  They are
# the same in every process: what a child inherited has the same number in its parent, so that both
# are found or neither is.
_PROBED: Final = tuple(int(8 * 1.5**step) // 2 * 2 + step % 2 for step in range(30))
_FD_LIMIT: Final = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)


def read_owners(
    inodes: Collection[int],
    cgroups: Collection[int] = (),
    uids: Collection[int] = (),
    seconds: float = math.inf,
) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
    """Return the owners of these socket inodes, and a gap where some could not be found.

    Processes of these cgroups are searched first, then those of these users, then the rest, each in
    the order of their numbers, so that of a pre-forking server the parent is named; where many
    sockets are sought, the processes in which a glance finds one go before the others.  The search
    stops once every inode has its owner, or after so many seconds (a million descriptors take about
    five).  A process that vanishes meanwhile or may not be read is passed over.
    """
    until = time.monotonic() + seconds
    links = {f"socket:[{inode}]": inode for inode in inodes if inode}
    missing = set(links.values())
    found: dict[int, tuple[Owner, ...]] = {}
    users: dict[int, str] = {}
    denied, late = 0, False
    for pid in _likely_first(cgroups, uids, links, until) if links else ():
        late = time.monotonic() >= until
        if late:
            break
        try:
            held, fds = _held(pid, links)
        except PermissionError:
            denied += 1
            continue
        except OSError:
            continue  # the process is gone
        if not held:
            continue
        owner = describe(pid, fds, users)
        if owner is None:
            continue
        for inode in held:
            found[inode] = (*found.get(inode, ()), owner)
        missing -= held
        if not missing:
            break  # here rather than above: to name the next process can take a look at all
    return found, _gaps(len(missing), denied, seconds if late else None)


class Holders:
    """Who holds which socket of this host: all processes, searched when first asked, and once.

    `denied` counts the processes whose descriptors may not be read.  A forked child, which may have
    other rights, searches again.
    """

    def __init__(self) -> None:
        self._searcher = 0
        self._pids: dict[int, tuple[int, ...]] | None = None
        self._owners: dict[int, Owner | None] = {}
        self._users: dict[int, str] = {}
        self.denied = 0

    def of(self, inode: int) -> tuple[Owner, ...]:
        """Return the processes that hold a socket, none where they were not seen."""
        if self._pids is None or self._searcher != os.getpid():
            self._pids = self._search()
        found = (self._owner(pid) for pid in self._pids.get(inode, ()))
        return tuple(owner for owner in found if owner is not None)

    def _owner(self, pid: int) -> Owner | None:
        if pid not in self._owners:
            self._owners[pid] = describe(pid, None, self._users)
        return self._owners[pid]

    @property
    def named(self) -> list[Owner]:
        """The processes that were asked for and seen."""
        return [owner for owner in self._owners.values() if owner is not None]

    def _search(self) -> dict[int, tuple[int, ...]]:
        self._searcher, self.denied = os.getpid(), 0
        pids: dict[int, tuple[int, ...]] = {}
        for pid in sorted(int(name) for name in _names("/proc") if name.isdecimal()):
            alone = (pid,)  # one for all sockets of a process: most have one holder
            try:
                for inode in _sockets_of(pid):
                    before = pids.get(inode)
                    if before is None:
                        pids[inode] = alone
                    elif before[-1] != pid:
                        pids[inode] = (*before, pid)
            except PermissionError:
                self.denied += 1
            except OSError:
                continue  # the process is gone
        return pids


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _sockets_of(pid: int) -> Iterator[int]:
    """Yield the inodes of the sockets among a process's descriptors, of whatever family."""
    folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(folder):
            try:
                link = os.readlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue  # closed meanwhile
            if link.startswith("socket:["):
                yield int(link[8:-1])
    finally:
        os.close(folder)


def _likely_first(
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
    try:
        rest = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
    except OSError:
        return
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
        # What stands before is the process's name in parentheses, which may hold some itself.
        text = read_text(f"/proc/{ancestors[-1] if ancestors else pid}/stat") or ""
        fields = text.rpartition(")")[2].split()
        if len(fields) < 4:
            break
        parent, group, session = map(int, fields[1:4])
        leaders = leaders or (session, group)
        if parent <= 1:
            break
        ancestors.append(parent)
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


def _held(pid: int, links: Mapping[str, int]) -> tuple[set[int], int]:
    """Return (wanted inodes that a process holds, its number of open descriptors).

    Nine tenths of its time are the kernel's: names in bytes, one mapped call for all descriptors or
    fchdir() gain at most 4 %, whole paths lose 20 %.
    """
    held: set[int] = set()
    folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = os.listdir(folder)
        for name in names:
            try:
                link = os.readlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue  # closed meanwhile
            if link in links:
                held.add(links[link])
                if len(held) == len(links):
                    break
    finally:
        os.close(folder)
    return held, len(names)


def describe(pid: int, fds: int | None = None, users: dict[int, str] | None = None) -> Owner | None:
    """Return what is known of a process, None where it is gone.

    The name of its user comes from /etc/passwd alone: a name service may be slow or hang.  `users`
    remembers names from one call to the next, since that file can have thousands of lines.
    """
    import psutil

    try:
        # Not in oneshot(): the two come from different files, and keeping these costs more.
        process = psutil.Process(pid)
        name = process.name()[:_LONGEST_NAME]
        uid = process.uids().real
        parent = process.ppid()
    except psutil.Error:
        return None
    limit = _FD_LIMIT.search(read_text(f"/proc/{pid}/limits") or "")
    users = {} if users is None else users
    if uid not in users:
        users[uid] = _user_name(uid)
    return Owner(pid, name, users[uid], fds, int(limit[1]) if limit else None, parent)


def _user_name(uid: int) -> str:
    for line in (read_text("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return f"uid {uid}"


def _gaps(missing: int, denied: int, late: float | None) -> list[Gap]:
    if not missing:
        return []
    sockets = "1 socket" if missing == 1 else f"{missing} sockets"
    if late is not None:
        why = f"the owners of {sockets} were not found within {late:.1f} s"
        return [Gap("owners", why, "give it more time (--timeout)", partial=True)]
    if denied:
        processes = "1 process" if denied == 1 else f"{denied} processes"
        why = f"the owners of {sockets} are not visible: no permission to read {processes}"
        how = "run as root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        return [Gap("owners", why, how, partial=True)]
    why = f"no process visible from here holds {sockets} (another PID namespace, or in transit)"
    # With hidepid the processes of other users are not even listed.
    how = "run on the host rather than in a container" + (", as root" if os.geteuid() else "")
    return [Gap("owners", why, how, partial=True)]
