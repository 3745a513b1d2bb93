"""What rules find: findings with their evidence, their place in the handshake and advice."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from twdiag.model.snapshot import HOST_NETNS, Gap, Host, Owner
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.namespaces import Container, Namespace
    from twdiag.tcp import State
    from twdiag.tcp.roles import Role


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


# What a finding is about.


class ListenerSubject(NamedTuple):
    """A listening address and port with the processes that listen there (may be unseen)."""

    address: str
    port: int
    processes: tuple[Owner, ...] = ()

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return "listener"


class DestinationSubject(NamedTuple):
    """Where this host connects to: source address (None: any), address and port."""

    source: str | None
    address: str
    port: int

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return "destination"


class ProcessSubject(NamedTuple):
    """A process; `pid` is None where only the user of its sockets could be seen.

    `parent` is the number of its parent, None unseen: workers of one master have it in common.
    `script` is what it runs where it is an interpreter: not all children of a supervisor are one
    program because they are "python3".
    """

    pid: int | None
    name: str
    user: str
    parent: int | None = None
    script: str = ""

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return "process"


class PortSubject(NamedTuple):
    """A local port."""

    port: int

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return "port"


class AddressSubject(NamedTuple):
    """A local or remote address, without a port."""

    address: str

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return "address"


class HostSubject(NamedTuple):
    """The host (or network namespace) as a whole."""

    @property
    def kind(self) -> str:
        """The word for it in JSON."""
        return "host"

    def __bool__(self) -> bool:
        return True


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


class Step(NamedTuple):
    """A command to run next: what to look for in its output, what it does to the process.

    `tool` is what has to be installed for it, "" where nothing has to.
    """

    run: str
    look: str
    effect: str = ""
    tool: str = ""


class Place(NamedTuple):
    """Where in the handshake a finding stands; `step` counts the close's segments from 1."""

    state: State
    role: Role
    step: int | None
    next: str

    @classmethod
    def of(cls, state: State) -> Place:
        """Return the place of a socket that is in a state, as the handshake model has it."""
        from twdiag.tcp.phases import PHASES  # a look that finds nothing does without them

        phase = PHASES[state]
        return cls(state, phase.role, phase.step, phase.next)


class OtherEnd(NamedTuple):
    """Who is at the other end of a finding's connections, where that is on this host too.

    `text` says it in a sentence; `netns` labels the namespace, and `process` holds or serves that
    end, None unseen.  `sockets` counts its connections that were seen there: where it is 0, the
    address alone tells.  `must_act` says whether that end has to act, and not this one.
    """

    text: str
    netns: str
    process: Owner | None = None
    sockets: int = 0
    must_act: bool = False


class Finding(NamedTuple):
    """One problem, with its evidence, its place in the handshake and what to do about it.

    Every number of `summary` is also in `evidence`.  `advice` is in the order to try it; `place` is
    None for findings outside the state machine (a sysctl, say).  What follows is filled in by the
    runner of the rules: `why` says why it matters, `pids` and `inodes` are the processes and the
    sockets that it is about, as far as they were seen, and `rows_command` lists the rows of socket
    tables that stand behind it, "" where none does.  `waits` says what these processes do
    instead, and `steps` how to see more of it, where that was looked at.  `netns` labels the
    network namespace; `namespace` is that one unless this process is in it, `container` is what
    runs the first of the processes.  `other_ends` are those on this host too, where they were
    looked for.
    """

    severity: Severity
    confidence: Confidence
    summary: str
    subject: Subject
    evidence: Mapping[str, Value]
    advice: tuple[Advice, ...]
    place: Place | None = None
    rule: str = ""
    why: str = ""
    do_not: tuple[str, ...] = ()
    netns: str = HOST_NETNS
    pids: tuple[int, ...] = ()
    inodes: tuple[int, ...] = ()
    rows_command: str = ""
    waits: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    namespace: Namespace | None = None
    container: Container | None = None
    other_ends: tuple[OtherEnd, ...] = ()

    @property
    def located(self) -> str:
        """The summary, behind the namespace where that is not this process's own."""
        said = self.netns == HOST_NETNS or self.tells(self.netns)
        return self.summary if said else f"in {self.netns}: {self.summary}"

    def tells(self, place: str) -> bool:
        """Return whether the summary says where it is.

        A namespace without another name is called by a process of it: no need to say that twice.
        Any other name may be in the summary by chance: "1" is in each address.
        """
        return "(pid " in place and place in self.summary


class Skip(NamedTuple):
    """A rule that could not look, with the reason and what would let it look."""

    rule: str
    reason: str
    how: str


class LookedAt(NamedTuple):
    """A network namespace that was looked at: its sockets, and how many findings it has.

    `namespace` is None where it is this process's own; `outside` tells that it could not be
    entered and was read through /proc/PID/net, which shows less.
    """

    label: str
    sockets: int
    findings: int
    namespace: Namespace | None = None
    outside: bool = False


class Report(NamedTuple):
    """What one look at a host found.

    `states` counts sockets per state; `closes` counts the TIME_WAITs that began in each of the last
    60 seconds, newest last, None where the source shows no timers.  `namespaces` are those that
    were looked at where that is more than one.
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
    facts: Mapping[str, Value] = {}
    namespaces: tuple[LookedAt, ...] = ()

    @property
    def status(self) -> Severity:
        """The worst severity among the findings, OK without one."""
        return max((f.severity for f in self.findings), default=Severity.OK)
