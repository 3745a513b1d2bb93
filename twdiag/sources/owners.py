"""Find which processes hold a few sockets: /proc/PID/fd, and psutil for what they are."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from twdiag.model import Gap, Owner
from twdiag.sources.proc import read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LONGEST_NAME: Final = 64  # psutil completes a name from argv[0], which a process can set
_MANY_SOCKETS: Final = 20
_FD_LIMIT: Final = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)


def read_owners(
    inodes: Collection[int], cgroups: Collection[int] = (), uids: Collection[int] = ()
) -> tuple[dict[int, tuple[Owner, ...]], list[Gap]]:
    """Return the owners of these socket inodes, and a gap where some could not be found.

    Processes of these cgroups are searched first, then those of these users, then the rest, each in
    the order of their numbers, so that of a pre-forking server the parent is named; the search
    stops once every inode has its owner.  A process that vanishes meanwhile or may not be read is
    passed over.
    """
    links = {f"socket:[{inode}]": inode for inode in inodes if inode}
    missing = set(links.values())
    found: dict[int, tuple[Owner, ...]] = {}
    denied = 0
    for pid in _likely_first(cgroups, uids, len(missing)):
        if not missing:
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
        owner = describe(pid, fds)
        if owner is None:
            continue
        for inode in held:
            found[inode] = (*found.get(inode, ()), owner)
        missing -= held
    return found, _gaps(len(missing), denied)


def _likely_first(cgroups: Collection[int], uids: Collection[int], sockets: int) -> Iterator[int]:
    """Yield the number of every process, the likely ones first.

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
        yield from sorted(members)
        rest -= members
    if sockets >= _MANY_SOCKETS:
        large = {pid for pid in rest if _descriptors(pid) >= sockets}
        yield from sorted(large)
        rest -= large
    same_user = {pid for pid in rest if _uid_of(pid) in uids}
    yield from sorted(same_user)
    yield from sorted(rest - same_user)


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
    """Return (wanted inodes that a process holds, its number of open descriptors)."""
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
    finally:
        os.close(folder)
    return held, len(names)


def describe(pid: int, fds: int | None = None) -> Owner | None:
    """Return what is known of a process, None where it is gone.

    The name of its user comes from /etc/passwd alone: a name service may be slow or hang.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            name = process.name()[:_LONGEST_NAME]
            uid = process.uids().real
    except psutil.Error:
        return None
    limit = _FD_LIMIT.search(read_text(f"/proc/{pid}/limits") or "")
    return Owner(pid, name, _user_name(uid), fds, int(limit[1]) if limit else None)


def _user_name(uid: int) -> str:
    for line in (read_text("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return f"uid {uid}"


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
