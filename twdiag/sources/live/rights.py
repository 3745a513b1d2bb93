"""What to do where the kernel refuses: become root, or get what this root lacks."""

from __future__ import annotations

import os
from typing import Final

from twdiag.sources.live.proc import read_text

READ_OTHERS: Final = ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")
"""What it takes to read the descriptors and system calls of other users' processes."""

ENTER: Final = ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
"""What it takes to enter the namespace of a process."""

NETFILTER: Final = ("CAP_NET_ADMIN",)
"""What it takes to read rules and tracked connections."""

_ALL_USERS: Final = ["0", "0", "4294967295"]


def to_get(*wanted: str) -> str:
    """Return what a user of these rights has to do to get them, as a next step."""
    if os.geteuid() != 0:
        return told(wanted, root=False)
    from twdiag.sources.live.probes import capabilities, status

    held = capabilities(status())
    users = read_text("/proc/self/uid_map")
    return told(wanted, root=True, held=held, limited=users is not None and not all_users(users))


def told(
    wanted: tuple[str, ...],
    *,
    root: bool,
    held: frozenset[str] | None = None,
    limited: bool = False,
) -> str:
    """Return the same from what is known of this process; pure.

    `root` is whether it has user number 0, `limited` whether only that of a user namespace; `held`
    are its capabilities, None unseen.
    """
    if not root:
        return f"run as root, or with {' and '.join(wanted)}"
    if limited:
        return "this root is that of a user namespace: run as root of the host"
    missing = [name for name in wanted if held is not None and name not in held]
    if not missing:
        return "a security module (AppArmor, SELinux) forbids it even to this root: see dmesg"
    added = " ".join(f"--cap-add={name.removeprefix('CAP_')}" for name in missing)
    return (
        f"this root lacks {' and '.join(missing)}: run on the host, or the container with {added}"
    )


def all_users(uid_map: str) -> bool:
    """Return whether the text of a uid_map maps all users to themselves, as on the host; pure."""
    return uid_map.split() == _ALL_USERS
