"""See which other network namespaces there are: their sockets are not in this one's dump."""

from __future__ import annotations

import os

from twdiag.model.snapshot import Gap
from twdiag.sources.live.proc import all_pids


def other_namespaces() -> list[Gap]:
    """Return a gap that counts the namespaces of the processes that may be looked at, if any."""
    found: set[int] = set()
    try:
        own = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return []
    for pid in all_pids():
        try:
            namespace = os.stat(f"/proc/{pid}/ns/net").st_ino
        except OSError:
            continue  # gone, or not ours to look at
        if namespace != own:
            found.add(namespace)
    if not found:
        return []
    one = len(found) == 1
    what = "1 other network namespace" if one else f"{len(found)} other network namespaces"
    return [
        Gap(
            "netns",
            f"{what} (containers?) {'was' if one else 'were'} not looked at",
            "twdiag --all-netns",
            partial=True,
        )
    ]
