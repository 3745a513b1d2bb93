"""What this host lets twdiag see, and whether its four readers of sockets agree."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag import __version__
from twdiag.errors import TwdiagError
from twdiag.sources.live import rights
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READERS: Final = ("netlink", "proc", "psutil", "pyroute2")
_ROUNDS: Final = 3
"""How often the readers are compared before a difference counts: sockets come and go."""


class Check(NamedTuple):
    """One thing that is there, or not (`works` False), or could not be tried (None).

    `costs` says what is not seen without it, `how` what would give it.
    """

    key: str
    group: str
    what: str
    works: bool | None
    costs: str = ""
    how: str = ""


class Reading(NamedTuple):
    """What one reader counted; `states` is None where it could not read, `why` says why.

    A reader is `broken` that fails otherwise than by a refusal that it knows of.
    """

    reader: str
    states: Mapping[State, int] | None
    why: str = ""
    differs: tuple[State, ...] = ()
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """All that was found.  Numbers that were not seen are None."""

    version: str
    python: str
    kernel: str
    machine: str
    libraries: Mapping[str, str]
    checks: tuple[Check, ...]
    readings: tuple[Reading, ...]
    processes: tuple[int, int]
    namespaces: int | None
    hertz: int | None
    time_wait_seconds: float | None

    @property
    def netlink_shows(self) -> bool:
        """Whether sock_diag works: without it much is not seen, however well the readers agree."""
        return not any(check.key == "sock-diag" and check.works is False for check in self.checks)

    @property
    def agree(self) -> bool:
        """Whether two readers or more could read, none is broken, and no two of them differ."""
        could = [reading for reading in self.readings if reading.states is not None]
        return len(could) > 1 and not any(r.differs or r.broken for r in self.readings)


def examine(read: Callable[[str], Mapping[State, int]] | None = None) -> Health:
    """Return what this host lets be seen; `read` counts sockets by state with a reader."""
    from twdiag.sources.live import probes

    timers = _tried(probes.time_wait_timers) or []
    return Health(
        __version__,
        platform.python_version(),
        os.uname().release,
        os.uname().machine,
        _libraries(),
        (*_features(), *_rights()),
        compared(read or count_states),
        probes.readable_processes(),
        _namespaces(),
        probes.hertz_of(timers),
        max(timers) / 1000 if timers else None,
    )


def count_states(reader: str) -> Mapping[State, int]:
    """Return how many sockets of this namespace are in each state, by one reader."""
    from twdiag.sources import collect

    return collect(reader).census.states


def compared(read: Callable[[str], Mapping[State, int]]) -> tuple[Reading, ...]:
    """Return what each reader counts, and in which states it differs from the first one that works.

    That one reads before and after the others: whatever changed between its two looks may have
    changed for the others too.  A difference has to show in three rounds to count.
    """
    readings = _compared_once(read)
    for _ in range(_ROUNDS - 1):
        if not any(reading.differs for reading in readings):
            break
        readings = _compared_once(read)
    return readings


def _compared_once(read: Callable[[str], Mapping[State, int]]) -> tuple[Reading, ...]:
    readings = [_reading(read, reader) for reader in READERS]
    first = next((reading for reading in readings if reading.states is not None), None)
    if first is None or first.states is None:
        return tuple(readings)
    again = _reading(read, first.reader).states
    if again is None:
        return tuple(readings)
    return tuple(
        reading._replace(differs=differences(first.states, again, reading.states))
        if reading.states is not None
        else reading
        for reading in readings
    )


def differences(
    before: Mapping[State, int], after: Mapping[State, int], seen: Mapping[State, int]
) -> tuple[State, ...]:
    """Return the states of which a reader counts what cannot be between two looks; pure.

    Between them a count can have gone beyond both by as much as they differ.  Where nothing
    changes, the counts have to be the same.
    """
    wrong = []
    for state in State:
        low, high = sorted((before.get(state, 0), after.get(state, 0)))
        spread = high - low
        if not low - spread <= seen.get(state, 0) <= high + spread:
            wrong.append(state)
    return tuple(wrong)


def _reading(read: Callable[[str], Mapping[State, int]], reader: str) -> Reading:
    try:
        return Reading(reader, dict(read(reader)))
    except TwdiagError as error:
        return Reading(reader, None, error.what)
    except Exception as error:  # a library's own: a reader that breaks is what is looked for
        return Reading(reader, None, type(error).__name__, broken=True)


def _tried(probe: Callable[[], list[int]]) -> list[int] | None:
    try:
        return probe()
    except OSError:
        return None


def _works(probe: Callable[[], bool | None]) -> bool | None:
    """Return what a probe says; one that the kernel refuses says no."""
    try:
        return probe()
    except (OSError, TwdiagError):
        return False


_OF_NETLINK: Final = frozenset({"bound", "ages", "mptcp", "destroy"})
_BY_NETLINK: Final = "sockets by netlink come first: see above"
_MOUNT: Final = "mount tracefs on /sys/kernel/tracing, unless locked down"


def _features() -> list[Check]:
    """Return which features of the kernel are there, each tried."""
    from twdiag.sources.live import probes
    from twdiag.sources.live.processes.headroom import counts_descriptors
    from twdiag.sources.live.sockets import one_port

    found = [
        Check(
            "sock-diag",
            "kernel",
            "sockets by netlink (sock_diag)",
            _works(lambda: probes.dump(1 << State.LISTEN) is not None),
            "ages, backlogs, cookies and bound sockets; reading takes longer",
            "modprobe tcp_diag; allow AF_NETLINK (systemd: RestrictAddressFamilies=)",
        ),
        Check(
            "bound",
            "kernel",
            "bound sockets that neither listen nor connect",
            _works(one_port.shows_bound),
            "who holds a port without listening on it",
            "Linux 6.8 or later",
        ),
        Check(
            "ages",
            "kernel",
            "how long sockets wait (tcp_info)",
            _works(probes.shows_ages),
            "whether a CLOSE_WAIT is old: young ones look like leaks",
            "sock_diag",
        ),
        Check(
            "mptcp",
            "kernel",
            "MPTCP connections",
            _works(probes.shows_mptcp),
            "CLOSE_WAITs of MPTCP connections",
            "modprobe mptcp_diag",
        ),
        Check(
            "destroy",
            "kernel",
            "word of each socket that dies",
            _works(probes.tells_of_closes),
            "live closes without root",
            "Linux 4.3 or later, with sock_diag",
        ),
        Check(
            "tracefs",
            "kernel",
            "trace events of sockets (tracefs)",
            probes.may_trace(),
            "which process closes first, live",
            "run as root; not where the kernel is locked down" if os.geteuid() else _MOUNT,
        ),
        Check(
            "namespaces",
            "kernel",
            "network namespaces told apart (nsfs)",
            probes.has_namespaces(),
            "containers",
            "mount /proc",
        ),
        Check(
            "descriptor-count",
            "kernel",
            "number of descriptors by one stat()",
            counts_descriptors(),
            "the descriptors of other users' processes",
            "Linux 6.2 or later",
        ),
    ]
    if found[0].works:
        return found
    return [c._replace(how=_BY_NETLINK) if c.key in _OF_NETLINK else c for c in found]


_COSTS: Final = {
    "CAP_SYS_PTRACE": "the owners of other users' sockets",
    "CAP_DAC_READ_SEARCH": "the owners of other users' sockets",
    "CAP_SYS_ADMIN": "the inside of other network namespaces (containers)",
    "CAP_NET_ADMIN": "conntrack entries, marks",
}


def _rights() -> list[Check]:
    from twdiag.sources.live import probes
    from twdiag.sources.live.proc import read_text

    status = probes.status()
    held = probes.capabilities(status)
    found = [
        Check(
            name.lower().replace("_", "-"),
            "rights",
            name,
            None if held is None else name in held,
            costs,
            rights.to_get(name),
        )
        for name, costs in _COSTS.items()
    ]
    hiding = probes.hidepid(read_text("/proc/self/mountinfo") or "")
    found.append(
        Check(
            "all-processes",
            "rights",
            "all processes in /proc" if hiding is None else f"all processes (hidepid={hiding})",
            hiding is None or (held is not None and "CAP_SYS_PTRACE" in held),
            "the owners of sockets, and namespaces",
            f"{rights.to_get('CAP_SYS_PTRACE')}, or in the group that /proc is mounted with",
        )
    )
    found.append(
        Check(
            "no-seccomp",
            "rights",
            "no seccomp filter",
            not probes.is_filtered(status),
            "nothing in itself: see above what is refused",
            "run outside of the container or unit that filters",
        )
    )
    return found


def _libraries() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("psutil", "pyroute2", "typer", "rich"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _namespaces() -> int | None:
    from twdiag.sources.live.namespaces.search import find_namespaces

    return len(find_namespaces().namespaces) or None
