"""The values that flow through twdiag: sockets, snapshots, gaps, findings and reports.  No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from twdiag.tcp import PHASES, Role, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from twdiag.analysis.half_closed import Waiting
    from twdiag.census.flows import Flows
    from twdiag.census.table import SocketTable
    from twdiag.model.limits import Limits

HOST_NETNS = "host"
"""The name of the network namespace that twdiag itself runs in."""


class Severity(enum.IntEnum):
    """How bad a finding is; OK is the severity of a report without findings."""

    OK = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def label(self) -> str:
        """The lower-case word used in JSON and on screen."""
        return self.name.lower()


class Confidence(enum.Enum):
    """Whether the kernel shows the fact itself or it is reasoned from what it shows."""

    OBSERVED = "observed"
    INFERRED = "inferred"


class Gap(NamedTuple):
    """Something that was not seen, which is not the same as zero.

    `what` is a stable key that rules name in `needs` ("sockets", "owners", "sockstat", "netstat",
    "timers", "queues", "inodes", "tcp-info", "bind-mode", or a sysctl such as
    "net.ipv4.tcp_tw_reuse"); `why` says what went wrong, `how` what would let it be seen.
    `partial` is True where some of it was seen, so that rules run on what there is.
    """

    what: str
    why: str
    how: str
    partial: bool = False


class Owner(NamedTuple):
    """A process that holds sockets.

    `fds` is its number of open descriptors and `fd_limit` its soft RLIMIT_NOFILE, None where /proc
    did not say.
    """

    pid: int
    name: str
    user: str
    fds: int | None = None
    fd_limit: int | None = None


class TcpInfo(NamedTuple):
    """The ages of one full socket from struct tcp_info (include/uapi/linux/tcp.h), milliseconds."""

    last_data_sent: int
    last_data_recv: int
    last_ack_recv: int


class Host(NamedTuple):
    """Which host a snapshot is of."""

    name: str
    kernel: str


@dataclass(frozen=True)
class Snapshot:
    """Everything that was seen of one network namespace at one moment.

    `counters` are /proc/net/netstat and snmp ("TcpExt.TW"), `sockstat` /proc/net/sockstat
    ("TCP.tw"), `sysctls` the values of the sysctls read ("net.ipv4.tcp_tw_reuse"): a missing key
    was not seen.  `tcp_info` maps socket cookies; `owners` maps socket inodes to the processes that
    hold them.  `auto_bound` holds the cookies of the listeners whose port the kernel chose, None
    where that was not asked.  `cgroups` maps socket inodes to cgroup numbers.  `earlier` is the
    first of two samples of the same namespace.
    """

    taken_at: float
    host: Host
    source: str
    sockets: SocketTable
    netns: str = HOST_NETNS
    counters: Mapping[str, int] = field(default_factory=dict)
    sockstat: Mapping[str, int] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    tcp_info: Mapping[int, TcpInfo] = field(default_factory=dict)
    owners: Mapping[int, tuple[Owner, ...]] = field(default_factory=dict)
    auto_bound: frozenset[int] | None = None
    cgroups: Mapping[int, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    earlier: Snapshot | None = None

    @property
    def missing(self) -> frozenset[str]:
        """The keys of everything that was not seen at all."""
        return frozenset(gap.what for gap in self.gaps if not gap.partial)

    @cached_property
    def flows(self) -> Flows:
        """The sockets grouped by listener and by destination, worked out once."""
        from twdiag.census.flows import Flows

        return Flows(self.sockets, self.sysctls)

    @cached_property
    def close_waits(self) -> list[Waiting]:
        """Every CLOSE_WAIT, sorted by why it waits, worked out once."""
        from twdiag.analysis.half_closed import close_waits

        return close_waits(self)

    def with_owners(self, owners: Mapping[int, tuple[Owner, ...]], gaps: Iterable[Gap]) -> Snapshot:
        """Return the same snapshot with owners; what was worked out of the sockets is kept."""
        named = replace(self, owners=owners, gaps=(*self.gaps, *gaps))
        for name in ("flows", "close_waits"):
            if name in self.__dict__:
                named.__dict__[name] = self.__dict__[name]
        return named

    def sysctl(self, name: str) -> int | None:
        """Return a sysctl as a whole number, None where it was not seen or is not one."""
        try:
            return int(self.sysctls[name])
        except (KeyError, ValueError):
            return None

    def grown(self, counter: str) -> int | None:
        """Return by how much a counter grew since the earlier sample, None without one."""
        if self.earlier is None or counter not in self.counters:
            return None
        before = self.earlier.counters.get(counter)
        if before is None or before > self.counters[counter]:
            return None  # not seen, or counted anew since: nothing is known of the growth
        return self.counters[counter] - before


# What a finding is about.


@dataclass(frozen=True, slots=True)
class ListenerSubject:
    """A listening address and port with the processes that listen there (may be unseen)."""

    kind: ClassVar[str] = "listener"
    address: str
    port: int
    processes: tuple[Owner, ...] = ()


@dataclass(frozen=True, slots=True)
class DestinationSubject:
    """Where this host connects to: source address (None: any), address and port."""

    kind: ClassVar[str] = "destination"
    source: str | None
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ProcessSubject:
    """A process; `pid` is None where only the user of its sockets could be seen."""

    kind: ClassVar[str] = "process"
    pid: int | None
    name: str
    user: str


@dataclass(frozen=True, slots=True)
class PortSubject:
    """A local port."""

    kind: ClassVar[str] = "port"
    port: int


@dataclass(frozen=True, slots=True)
class AddressSubject:
    """A local or remote address, without a port."""

    kind: ClassVar[str] = "address"
    address: str


@dataclass(frozen=True, slots=True)
class HostSubject:
    """The host (or network namespace) as a whole."""

    kind: ClassVar[str] = "host"


Subject = (
    ListenerSubject
    | DestinationSubject
    | ProcessSubject
    | PortSubject
    | AddressSubject
    | HostSubject
)

Value = int | float | str | bool | None | list[int] | list[float] | list[str]
"""What a piece of evidence can be: a number, a word, or a list of one of them; None is unseen."""


class Advice(NamedTuple):
    """One thing to do: what, how exactly, what it costs and how to see that it worked."""

    do: str
    how: str = ""
    cost: str = ""
    verify: str = ""


class Place(NamedTuple):
    """Where in the handshake a finding stands; `step` counts the close's segments from 1."""

    state: State
    role: Role
    step: int | None
    next: str

    @classmethod
    def of(cls, state: State) -> Place:
        """Return the place of a socket that is in a state, as the handshake model has it."""
        phase = PHASES[state]
        return cls(state, phase.role, phase.step, phase.next)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, with its evidence, its place in the handshake and what to do about it.

    Every number of `summary` is also in `evidence`.  `why` says why it matters; `advice` is in the
    order to try it; `place` is None for findings outside the state machine (a sysctl, say).
    """

    rule: str
    severity: Severity
    confidence: Confidence
    summary: str
    subject: Subject
    evidence: Mapping[str, Value]
    why: str
    advice: tuple[Advice, ...]
    do_not: tuple[str, ...] = ()
    place: Place | None = None
    netns: str = HOST_NETNS


class Skip(NamedTuple):
    """A rule that could not look, with the reason and what would let it look."""

    rule: str
    reason: str
    how: str


@dataclass(frozen=True)
class Rule:
    """One rule: a name that states the problem, its manual, and a pure function.

    `check` yields findings from a snapshot and the limits; it reads no clock and does no I/O.
    `needs` names what must have been seen (keys of `Gap.what`); a need in the snapshot's gaps makes
    a recorded skip.  `inodes` yields the socket inodes whose owners `check` would name.
    """

    name: str
    manual: str
    check: Callable[[Snapshot, Limits], Iterator[Finding]]
    needs: tuple[str, ...] = ("sockets",)
    inodes: Callable[[Snapshot, Limits], Iterable[int]] | None = None


@dataclass(frozen=True)
class Report:
    """What one look at a host found.

    `states` counts sockets per state; `closes` counts the TIME_WAITs that began in each of the last
    60 seconds, newest last, None where the source shows no timers.
    """

    version: str
    taken_at: float
    host: Host
    source: str
    netns: str
    states: Mapping[State, int]
    closes: tuple[int, ...] | None
    findings: tuple[Finding, ...]
    skipped: tuple[Skip, ...]
    gaps: tuple[Gap, ...]
    facts: Mapping[str, Value] = field(default_factory=dict)

    @property
    def status(self) -> Severity:
        """The worst severity among the findings, OK without one."""
        return max((f.severity for f in self.findings), default=Severity.OK)
