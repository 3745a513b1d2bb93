"""Read /proc/PID/net/unix: the paths that Unix sockets are bound or connected to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twdiag.sources.live.proc import read_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

# Num RefCount Protocol Flags Type St Inode Path: unix_seq_show() in net/unix/af_unix.c
_INODE, _PATH = 6, 7


def read_unix_paths(pid: int, inodes: Collection[int]) -> Counter[str]:
    """Return how many of these sockets have each path, "" of those without one.

    A connection that a server accepted has the path of its listener; its client's has none.
    """
    return Counter(path_of_each(pid, inodes).values())


def path_of_each(pid: int, inodes: Collection[int]) -> dict[int, str]:
    """Return the path of each of these sockets that is listed in the process's namespace."""
    try:
        return parse_unix_paths(read_bytes(f"/proc/{pid}/net/unix"), inodes)
    except OSError:
        return {}


def parse_unix_paths(text: bytes, inodes: Collection[int]) -> dict[int, str]:
    """Return the same from the text of the file; a name of the abstract kind begins with @."""
    found: dict[int, str] = {}
    for line in text.split(b"\n")[1:]:
        words = line.split(None, _PATH)
        if len(words) > _INODE and words[_INODE].isdigit() and int(words[_INODE]) in inodes:
            path = words[_PATH] if len(words) > _PATH else b""
            found[int(words[_INODE])] = path.decode("utf-8", "backslashreplace")
    return found
