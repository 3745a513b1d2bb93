"""Find every network namespace of this host, with its processes, its name and how busy it is.

Finding needs no right: the inode of /proc/PID/net/tcp is the same for the processes of one
namespace and no others (fs/proc/proc_net.c makes a tree for each), and mounts that keep a namespace
without a process stand in /proc/PID/mountinfo.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.namespaces import Namespace, Usage
from twdiag.model.snapshot import BARRED, HOST_NETNS, OUTSIDE, Gap
from twdiag.sources.live import rights
from twdiag.sources.live.namespaces.containers import container_of
from twdiag.sources.live.netfilter.conntrack import parse_counters
from twdiag.sources.live.proc import all_pids, read_text, start_of
from twdiag.wording import few

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_MOST_MOUNT_TABLES: Final = 256
_MOST_AGES: Final = 64
_USAGE: Final = re.compile(r"^TCP6?: inuse (\d+)(?: orphan \d+ tw (\d+))?", re.MULTILINE)
_HIDDEN: Final = "others hidden"
"""It holds for this namespace alone as well as for all that were found."""
_NSFS: Final = re.compile(r"net:\[(\d{1,10})\]")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class Found(NamedTuple):
    """Every namespace that can be told apart, and what may have been missed."""

    namespaces: tuple[Namespace, ...]
    gaps: tuple[Gap, ...] = ()

    @property
    def own(self) -> Namespace:
        """The namespace of this process."""
        return next(namespace for namespace in self.namespaces if namespace.own)


class Mount(NamedTuple):
    """A mount that keeps a network namespace: its inode, and the file that stands for it."""

    inode: int
    path: str


def parse_mounts(text: str) -> list[Mount]:
    """Return the network namespaces that /proc/PID/mountinfo shows as mounted (nsfs), in order.

    Lines are "36 27 0:4 net:[4026532246] /run/netns/blue rw shared:5 - nsfs nsfs rw", with blanks,
    tabs, newlines and backslashes in octal: proc_pid_mountinfo(5).
    """
    mounts = []
    # Not splitlines(): the kernel escapes "\n" and no other end of a line.
    for line in text.split("\n"):
        fields, dash, kind = line.partition(" - ")
        words = fields.split(" ")
        if not dash or not kind.startswith("nsfs ") or len(words) < 6:
            continue
        if match := _NSFS.fullmatch(words[3]):
            path = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), words[4])
            mounts.append(Mount(int(match[1]), path))
    return mounts


def parse_usage(sockstat: str | None, sockstat6: str | None) -> Usage | None:
    """Return how many sockets /proc/net/sockstat and sockstat6 tell of, None where neither does.

    A kernel without IPv6 has no sockstat6.
    """
    match = _USAGE.search(sockstat or "")
    if match is None or match[2] is None:
        return None
    match6 = _USAGE.search(sockstat6 or "")
    return Usage(int(match[1]) + (int(match6[1]) if match6 else 0), int(match[2]))


def read_usage(folder: str = "/proc/self/net") -> Usage | None:
    """Return how many sockets and tracked connections the namespace of a /proc/PID/net has.

    0.05 ms.
    """
    usage = parse_usage(read_text(f"{folder}/sockstat"), read_text(f"{folder}/sockstat6"))
    tracked = read_text(f"{folder}/stat/nf_conntrack")
    counters = parse_counters(tracked) if tracked else None
    return usage if usage is None or counters is None else usage._replace(tracked=counters.entries)


def find_namespaces() -> Found:
    """Return every network namespace of this host; call it in the main thread.

    A namespace that neither a process nor a mount keeps (but a descriptor or a socket) is not
    found, nor one that only a thread other than its process's first is in.
    """
    groups = _groups()
    own_table = inode_of("/proc/self/net/tcp")
    own_inode = inode_of("/proc/self/ns/net")
    found = [
        _of_processes(table, pids, own_table, own_inode)
        for table, pids in sorted(groups.items(), key=lambda group: group[1][0])
    ]
    if own_table is not None and own_table not in groups:
        # This process entered it in a thread of its own, or /proc shows no numbers at all.
        found.append(_of_processes(own_table, [os.getpid()], own_table, own_inode))
    # One that has just ended hides its number, and would make every mount doubtful.
    found = [namespace for namespace in found if namespace.inode is not None or _lives(namespace)]
    mounts = _mounts(found)
    named, unmatched = _with_paths(found, mounts)
    return Found(tuple(map(_distinct, named)), tuple(_gaps(unmatched)))


def _lives(namespace: Namespace) -> bool:
    return any(inode_of(f"/proc/{pid}/net/tcp") == namespace.table for pid in namespace.pids)


def _groups() -> dict[int, list[int]]:
    """Return the processes by the inode of their /proc/PID/net/tcp; 2 us a process."""
    groups: dict[int, list[int]] = {}
    for pid in all_pids():
        # A process that ends meanwhile, and a zombie, has no such file.
        table = inode_of(f"/proc/{pid}/net/tcp")
        if table is not None:
            groups.setdefault(table, []).append(pid)
    return groups


def _of_processes(
    table: int, pids: list[int], own_table: int | None, own_inode: int | None
) -> Namespace:
    own = table == own_table
    ordered = sorted(pids) if own else _oldest_first(pids)
    command = "" if own else _command(ordered[0])
    container = None if own else container_of(ordered[0])
    label = HOST_NETNS if own else container.label if container else f"{command} (pid {ordered[0]})"
    # Not every process may be looked at, and one is enough.
    inodes = (inode_of(f"/proc/{pid}/ns/net") for pid in ordered[:_MOST_AGES])
    inode = own_inode if own else next((number for number in inodes if number), None)
    usages = (read_usage(f"/proc/{pid}/net") for pid in ordered)
    usage = next((usage for usage in usages if usage is not None), None)
    return Namespace(label, table, inode, tuple(ordered), command, (), container, usage, own)


def _oldest_first(pids: list[int]) -> list[int]:
    """Return processes with the oldest first: it made the namespace, later ones share it."""
    ages = {pid: start_of(pid) for pid in sorted(pids)[:_MOST_AGES]}
    # One whose start is not shown comes last.
    return sorted(pids, key=lambda pid: (ages.get(pid) is None, ages.get(pid), pid))


def _command(pid: int) -> str:
    return (read_text(f"/proc/{pid}/comm") or "?").rstrip("\n")


def _mounts(found: Iterable[Namespace]) -> list[tuple[int, Mount]]:
    """Return the mounts that keep network namespaces, each with a process that sees it.

    Each mount namespace is read once, this process's first; a container's daemon may have one of
    its own.
    """
    mounts, seen = [(os.getpid(), mount) for mount in _mounts_of("self")], set()
    seen.add(inode_of("/proc/self/ns/mnt"))
    read = 0
    representatives = [n.pid for n in found if n.pid is not None]
    for pid in (*representatives, *sorted(all_pids())):
        if read >= _MOST_MOUNT_TABLES:
            break
        table = inode_of(f"/proc/{pid}/ns/mnt")
        # Without the right to tell mount namespaces apart, one process a namespace is read.
        if table in seen or (table is None and pid not in representatives):
            continue
        seen.add(table if table is not None else -pid)
        read += 1
        mounts += [(pid, mount) for mount in _mounts_of(pid)]
    return mounts


def _mounts_of(pid: int | str) -> list[Mount]:
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return []
    return parse_mounts(text) if " - nsfs " in text else []


def _with_paths(
    found: list[Namespace], mounts: list[tuple[int, Mount]]
) -> tuple[list[Namespace], list[str]]:
    """Return the namespaces with the paths that stand for them, and those that only mounts keep.

    Where the inode of a namespace with processes is not shown, a mount may be its own: such mounts
    are returned by their paths, so that nothing is counted twice.
    """
    paths: dict[int, list[str]] = {}
    for pid, mount in mounts:
        path = mount.path if pid == os.getpid() else f"/proc/{pid}/root{mount.path}"
        known = paths.setdefault(mount.inode, [])
        if mount.path not in (text.partition("/root")[2] or text for text in known):
            known.append(path)
    named = [replace(n, paths=tuple(paths.pop(n.inode or 0, ()))) for n in found]
    named = [replace(n, label=_name_of(n.paths)) if n.paths and _nameless(n) else n for n in named]
    if any(namespace.inode is None for namespace in named):
        return named, [places[0] for places in paths.values()]
    alone = [
        Namespace(_name_of(places), inode=inode, paths=tuple(places))
        for inode, places in paths.items()
    ]
    return named + alone, []


def _distinct(namespace: Namespace) -> Namespace:
    """Return a namespace that is not called as this process's own is."""
    if namespace.own or namespace.label != HOST_NETNS:
        return namespace
    return replace(namespace, label=f"{HOST_NETNS} (another)")


def _nameless(namespace: Namespace) -> bool:
    """Return whether a path's name says more than the label: no container, not this process's."""
    container = namespace.container
    return not namespace.own and (container is None or container.is_unit)


def _name_of(paths: Iterable[str]) -> str:
    """Return what people call a namespace that has a file: with `ip netns` the file's name."""
    return next(iter(paths)).rpartition("/")[2]


def _gaps(unmatched: list[str]) -> Iterator[Gap]:
    if unmatched:
        names = few(path.rpartition("/")[2] for path in unmatched)
        why = f"mounted network namespaces ({names}) may hold no process, and then go unseen"
        how = rights.to_get(*rights.ENTER)
        yield Gap(OUTSIDE, why, how, partial=True, short="some perhaps unseen")
    if not os.path.exists("/proc/1"):
        why = "/proc hides the processes of others (hidepid), and their namespaces with them"
        how = f"{rights.to_get('CAP_SYS_PTRACE')}, or as a member of the group of /proc"
        yield Gap(BARRED, why, how, partial=True, short=_HIDDEN)
    elif inode_of("/proc/self/ns/pid") not in (None, _FIRST_PID_NAMESPACE):
        why = "namespaces beside this container are hidden: it has its own PID namespace"
        yield Gap(BARRED, why, "run on the host itself", partial=True, short=_HIDDEN)


def inode_of(path: str) -> int | None:
    """Return the inode of a file, None where it is not shown."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
