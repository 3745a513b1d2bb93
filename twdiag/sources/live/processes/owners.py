"""Find which processes hold a few sockets: /proc/PID/fd, and psutil for what they are."""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING, Final

from twdiag.model.snapshot import Gap, Owner
from twdiag.sources.live import rights
from twdiag.sources.live.proc import all_pids, read_text
from twdiag.sources.live.processes.likely import likely_first
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_LONGEST_NAME: Final = 64  # psutil completes a name from argv[0], which a process can set
_INTERPRETERS: Final = ("python", "pypy", "node", "java", "ruby", "perl", "php", "bash", "sh")
_CODE: Final = ("-c", "-e", "-r")
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
    for pid in likely_first(cgroups, uids, links, until) if links else ():
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
        for pid in sorted(all_pids()):
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
        script = script_of(process.cmdline()) if name.startswith(_INTERPRETERS) else ""
    except psutil.Error:
        return None
    limit = _FD_LIMIT.search(read_text(f"/proc/{pid}/limits") or "")
    users = {} if users is None else users
    if uid not in users:
        users[uid] = _user_name(uid)
    return Owner(pid, name, users[uid], fds, int(limit[1]) if limit else None, parent, script)


def script_of(command_line: Sequence[str]) -> str:
    """Return the name of the script or module that an interpreter runs, "" where it is given code.

    multiprocessing and the like start their workers by code that differs in each.
    """
    for word in command_line[1:]:
        if word in _CODE:
            return ""
        if not word.startswith("-"):
            return word.rpartition("/")[2][:_LONGEST_NAME]
    return ""


def _user_name(uid: int) -> str:
    for line in (read_text("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return f"uid {uid}"


def _gaps(missing: int, denied: int, late: float | None) -> list[Gap]:
    if not missing:
        return []
    sockets = count(missing, "socket")
    if late is not None:
        why = f"the owners of {sockets} were not found within {late:.1f} s"
        return [Gap("owners", why, "give it more time (--timeout)", partial=True)]
    if denied:
        processes = count(denied, "process", "processes")
        why = f"the owners of {sockets} are not visible: no permission to read {processes}"
        how = rights.to_get(*rights.READ_OTHERS)
        return [Gap("owners", why, how, partial=True)]
    why = f"no process visible from here holds {sockets} (another PID namespace, or in transit)"
    # With hidepid the processes of other users are not even listed.
    how = "run on the host rather than in a container" + (", as root" if os.geteuid() else "")
    return [Gap("owners", why, how, partial=True)]
