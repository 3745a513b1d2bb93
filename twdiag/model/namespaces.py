"""Network namespaces and containers as values: what they are called, how busy they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

UNSEEN: Final = "namespaces"
"""The key of a gap (Gap.what) for namespaces that were to be looked at, and were not."""

NO_TIME: Final = "no time was left"
"""How such a gap ends where more time would have helped."""


class Container(NamedTuple):
    """What runs a process: a container, a pod, or a unit of systemd.

    `runtime` is "docker", "podman", "containerd", "cri-o", "lxc", "kubernetes" or "systemd", or
    "container" where the path does not say; `id`
    is what the runtime calls it (64 hex digits, or a word); `name` is what people call it, None
    where no file shows it; `pod` is the UID of its Kubernetes pod.
    """

    runtime: str
    id: str
    name: str | None = None
    pod: str | None = None

    @property
    def label(self) -> str:
        """The shortest text that people recognise it by."""
        if self.name:
            return self.name
        if self.pod and not self.id:
            return f"pod {self.pod}"
        return self.id[:12] if _is_hash(self.id) else self.id

    @property
    def is_unit(self) -> bool:
        """Whether this is a unit of systemd and no container."""
        return self.runtime == "systemd"


def _is_hash(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


class Usage(NamedTuple):
    """How many TCP sockets a namespace has, by /proc/net/sockstat and sockstat6.

    `inuse` are those in the hash tables of both families, LISTEN among them; `time_wait` counts the
    mini-sockets, those of IPv6 and of orphans in FIN_WAIT2 among them.  Bound, unconnected sockets
    are in neither.  `tracked` counts the entries of connection tracking: a router has these alone.
    """

    inuse: int
    time_wait: int
    tracked: int = 0

    @property
    def total(self) -> int:
        """All sockets."""
        return self.inuse + self.time_wait

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        return not self.total and not self.tracked


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace of this host.

    `table` is the inode of its /proc/PID/net/tcp, which anybody may see; `inode` that of
    /proc/PID/ns/net, None without the right to read it.  At least one of them is known.  `pids` are
    its processes, the oldest first; none for a namespace that only a mount keeps.  `paths` are
    files that stand for it, such as /run/netns/blue.  `container` is the owner's: that of the
    oldest process.  `usage` is None where it was not seen.  `own` is whether this process is in it.
    """

    label: str
    table: int | None = None
    inode: int | None = None
    pids: tuple[int, ...] = ()
    command: str = ""
    paths: tuple[str, ...] = ()
    container: Container | None = None
    usage: Usage | None = None
    own: bool = False

    @property
    def pid(self) -> int | None:
        """A process of it: the oldest."""
        return self.pids[0] if self.pids else None

    @property
    def lasting_name(self) -> str:
        """The label, or the command where that has the number of a process: each would be new."""
        named = self.paths or (self.container is not None and self.label == self.container.label)
        return self.label if named or not self.command else self.command

    @property
    def names(self) -> frozenset[str]:
        """Every word that means it: its label, paths and their last parts, its container's."""
        words = {self.label, *self.paths, *(path.rpartition("/")[2] for path in self.paths)}
        if self.container is not None:
            words |= {self.container.id, self.container.label, self.container.name or ""}
        return frozenset(words - {""})


def by_business(namespaces: tuple[Namespace, ...]) -> list[Namespace]:
    """Return the namespaces worth a look, in the order of it.

    This process's own comes first, then those with the most sockets, then those whose usage is not
    known; the empty ones are left out.
    """

    def rank(namespace: Namespace) -> tuple[bool, bool, int, int, str]:
        usage = namespace.usage
        return (
            not namespace.own,
            usage is None,
            -(usage.total if usage is not None else 0),
            -(usage.tracked if usage is not None else 0),
            namespace.label,
        )

    busy = (n for n in namespaces if n.own or n.usage is None or not n.usage.is_empty)
    return sorted(busy, key=rank)
