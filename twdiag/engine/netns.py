"""Find the network namespace that `--netns` means: a name, a path, a process or a container.

A word that means none is an error and nothing else: no namespace is ever made.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, TypeVar

from twdiag.errors import UsageError
from twdiag.model.limits import nearest
from twdiag.model.namespaces import Namespace
from twdiag.model.snapshot import HOST_NETNS
from twdiag.sources.live import rights

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_NS_GET_NSTYPE: Final = 0xB703  # include/uapi/linux/nsfs.h
_CLONE_NEWNET: Final = 0x40000000
_ID_PREFIX: Final = re.compile(r"[0-9a-f]{6,64}")
_MOST_NAMED: Final = 5


def resolve(word: str) -> Namespace:
    """Return the namespace of this host that a word means; raises UsageError for none, or several.

    Beside what choose() knows: a path of any file that stands for a network namespace, and the
    container of a process that shares another one's network.
    """
    from twdiag.sources.live.namespaces.search import find_namespaces

    namespaces = find_namespaces().namespaces
    if "/" in word and (at_path := _at_path(word, namespaces)) is not None:
        return at_path
    try:
        return choose(word, namespaces)
    except UsageError:
        # Without rights nothing tells which namespace a file of `ip netns` is, but the file itself.
        named = None if "/" in word else _at_path(f"/run/netns/{word}", namespaces)
        meant = named or _of_guest(word, namespaces)
        if meant is None:
            raise
        return meant


def choose(word: str, namespaces: Sequence[Namespace]) -> Namespace:
    """Return the namespace that a word means; pure.

    A number is a process; other words are names (of `ip netns`, of containers, "host" for this
    process's own), paths, or at least six digits of a container's id.  Raises UsageError, naming
    what is near, where no namespace or more than one fits.
    """
    if word.isascii() and word.isdigit():
        fitting = [n for n in namespaces if int(word) in n.pids]
    elif word == HOST_NETNS:  # whatever others may be called
        fitting = [n for n in namespaces if n.own]
    else:
        fitting = (
            [n for n in namespaces if word in n.names]
            or [n for n in namespaces if word in n.label.split("/")]
            or [n for n in namespaces if _id_begins(n, word)]
        )
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"{word!r} means {len(fitting)} network namespaces: {_listed(fitting)}",
            f"name a process of the one you mean, for example --netns {_example(fitting)}",
        )
    raise _unknown(word, namespaces)


def _id_begins(namespace: Namespace, word: str) -> bool:
    container = namespace.container
    return container is not None and bool(
        _ID_PREFIX.fullmatch(word) and container.id.startswith(word)
    )


def _unknown(word: str, namespaces: Sequence[Namespace]) -> UsageError:
    if word.isascii() and word.isdigit():
        return UsageError(
            f"there is no process {word}, or its network namespace is not visible",
            "give the PID of a running process; where its namespace is hidden, "
            + rights.to_get(*rights.ENTER),
        )
    if "/" in word:
        return UsageError(
            f"{word} is no network namespace", "look which there are: ls /run/netns; lsns -t net"
        )
    names = sorted({name for n in namespaces for name in n.names if "/" not in name})
    labels = _listed([n for n in namespaces if not n.own])
    return UsageError(
        f"there is no network namespace or container {word!r}{nearest(word, names)}",
        f"there is: {labels}" if labels else "there is no other network namespace on this host",
    )


def _listed(namespaces: Sequence[Namespace]) -> str:
    names = [n.label for n in namespaces[:_MOST_NAMED]]
    more = len(namespaces) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _example(fitting: Sequence[Namespace]) -> str:
    return str(next((n.pid for n in fitting if n.pid is not None), "PID"))


def _at_path(path: str, namespaces: Sequence[Namespace]) -> Namespace | None:
    """Return the namespace that a file stands for, None where it stands for none."""
    inode = _inode_of_namespace(path)
    if inode is None:
        return None
    known = next((n for n in namespaces if n.inode == inode), None)
    return known or Namespace(path.rpartition("/")[2], inode=inode, paths=(path,))


def _inode_of_namespace(path: str) -> int | None:
    """Return the inode of a file that stands for a network namespace: open first, then ask."""
    import fcntl

    try:
        # A pipe must not hold up the opening; a namespace's file does not care.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET:
            return os.fstat(descriptor).st_ino
    except OSError:
        pass  # no namespace at all: ENOTTY
    finally:
        os.close(descriptor)
    return None


def _of_guest(word: str, namespaces: Sequence[Namespace]) -> Namespace | None:
    """Return the namespace of a container that is not the owner of its network."""
    from twdiag.sources.live.namespaces.containers import container_of

    for namespace in namespaces:
        for pid in namespace.pids[:64] if namespace.own else namespace.pids[1:64]:
            container = container_of(pid)
            if container is not None and word in (container.name, container.id, container.label):
                return namespace
    return None
