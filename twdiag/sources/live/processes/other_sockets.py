"""Tell what the sockets of threads are that no TCP table shows: Unix, UDP, netlink and others."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from twdiag.model.waits import FdKind, OtherSocket
from twdiag.sources.live.proc import all_pids
from twdiag.sources.live.processes.descriptors import protocol, read_holders
from twdiag.sources.live.processes.unix_paths import path_of_each
from twdiag.sources.live.processes.unix_peers import unix_peers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Set

    from twdiag.model.waits import ProcessWaits

_MOST: Final = 100
"""Of how many sockets that is asked: threads of a pool wait for few kinds of them."""


def read_others(
    found: Iterable[ProcessWaits], known: Collection[int], seconds: float
) -> dict[int, OtherSocket]:
    """Return what the sockets that threads wait for are, by inode; the `known` ones left out.

    A socket whose protocol may not be read is left out too.  The process at the other end of a Unix
    socket is named where the search for it was whole and found one alone.
    """
    holders = _holders(found, known)
    protocols = {inode: protocol(pid, fd) for inode, (pid, fd) in holders.items()}
    names = {inode: name.decode("ascii", "replace") for inode, name in protocols.items() if name}
    unix = {inode for inode, name in names.items() if name.startswith("UNIX")}
    peers = unix_peers(unix)
    paths = _paths({holders[inode][0] for inode in unix}, {*unix, *peers.values()})
    programs = _programs(set(peers.values()), seconds)
    return {
        inode: OtherSocket(
            name,
            paths.get(inode, ""),
            paths.get(peers.get(inode, 0), ""),
            programs.get(peers.get(inode, 0), ""),
            inode in peers,
        )
        for inode, name in names.items()
    }


def _holders(found: Iterable[ProcessWaits], known: Collection[int]) -> dict[int, tuple[int, int]]:
    """Return the process and the descriptor of each socket that is asked about."""
    holders: dict[int, tuple[int, int]] = {}
    for process in found:
        for target in (target for thread in process.threads for target in thread.targets):
            inode = target.inode
            if target.kind is FdKind.SOCKET and inode is not None and inode not in known:
                holders.setdefault(inode, (process.pid, target.number))
    return dict(islice(holders.items(), _MOST))


def _paths(pids: Iterable[int], inodes: Set[int]) -> dict[int, str]:
    """Return the paths of Unix sockets, from the tables of the namespaces of some processes."""
    paths: dict[int, str] = {}
    for pid in pids:
        if not inodes - paths.keys():
            break
        paths.update(path_of_each(pid, inodes))
    return paths


def _programs(inodes: Collection[int], seconds: float) -> Mapping[int, str]:
    """Return the only process that holds each of these sockets, as "postgres, pid 915"."""
    if not inodes:
        return {}
    holders, whole = read_holders(inodes, all_pids(), seconds)
    if not whole:
        return {}
    sole = {inode: {(h.name, h.pid) for h in held} for inode, held in holders.items()}
    return {
        inode: "{}, pid {}".format(*next(iter(held)))
        for inode, held in sole.items()
        if len(held) == 1
    }
