"""Everything that was seen of one network namespace at one moment, and what was not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.model.census import Census
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.conntrack import Conntrack
    from twdiag.model.idling import Watched
    from twdiag.model.sockets import Socket
    from twdiag.tcp import State

HOST_NETNS: Final = "host"
"""The name of the network namespace that twdiag itself runs in."""

BARRED: Final = "barred-namespaces"
"""The key of a gap for namespaces that this process may not see, however often it looks."""

OUTSIDE: Final = "netns"
"""The key of a gap for what was not seen of a namespace that was not entered."""


NOT_RUN: Final = "rules"
"""The key of a gap where only some rules ran: those that were selected."""

IGNORED: Final = "ignored-rules"
"""The key of a gap for rules that were ignored, by an option or by the settings."""

LEFT_OUT: Final = frozenset({NOT_RUN, IGNORED})
"""The keys of what was left out because somebody wanted it so: it could have been seen."""


class Gap(NamedTuple):
    """Something that was not seen, which is not the same as zero.

    `what` is a stable key that rules name in `needs` ("sockets", "owners", "sockstat", "netstat",
    "timers", "queues", "inodes", "tcp-info", "bind-mode", or a sysctl such as
    "net.ipv4.tcp_tw_reuse"); `why` says what went wrong, `how` what would let it be seen.
    `partial` is True where some of it was seen, so that rules run on what there is.  `short` says
    it in a few words, where an OK has to admit it.
    """

    what: str
    why: str
    how: str
    partial: bool = False
    short: str = ""


class Owner(NamedTuple):
    """A process that holds sockets.

    `fds` is its number of open descriptors, `fd_limit` its soft RLIMIT_NOFILE and `parent` the
    number of its parent, None where /proc did not say.  `script` is what an interpreter runs, "" of
    other programs and where its command line does not tell.
    """

    pid: int
    name: str
    user: str
    fds: int | None = None
    fd_limit: int | None = None
    parent: int | None = None
    script: str = ""


class Breakdown(NamedTuple):
    """What the descriptors of a process are, of `looked` ones at most.

    `states` counts its TCP sockets by state, `nowhere` those that no table shows: reset by the
    peer or ended by keepalive, and never closed.  `elsewhere` counts those in tables of other
    network namespaces, `uncertain` those in no table that was read, while a namespace was found
    whose tables may not be, or in time could not; with `hidden`, there may be namespaces that this
    process cannot see, and `nowhere` is inferred.  `kinds` counts all else: "file", "pipe" ...
    Where many of its sockets are in ESTABLISHED, `aged` of these were asked for their ages;
    `unguarded` are those of them that no keepalive guards.  `running` is for how long (s) the
    process has run, None unseen.  `unix_path` is that of most of its Unix sockets where these are
    many, text from outside, "" where they have none in common.
    """

    looked: int
    states: Mapping[State, int]
    nowhere: int
    kinds: Mapping[str, int]
    aged: int = 0
    unguarded: tuple[Socket, ...] = ()
    running: float | None = None
    elsewhere: int = 0
    uncertain: int = 0
    hidden: bool = False
    unix_path: str = ""


class Host(NamedTuple):
    """Which host a snapshot is of."""

    name: str
    kernel: str


class Pace(NamedTuple):
    """By how much counters grew while the sockets were read, in so many seconds."""

    seconds: float
    grown: Mapping[str, int]


class Snapshot(NamedTuple):
    """Everything that was seen of one network namespace at one moment.

    `counters` are /proc/net/netstat and snmp ("TcpExt.TW"), `sockstat` /proc/net/sockstat
    ("TCP.tw"), `sysctls` the values of the sysctls read ("net.ipv4.tcp_tw_reuse"): a missing key
    was not seen.  `pace` tells how counters grew during the look, None where that does not matter.
    `owners` maps socket inodes to the processes that hold them.  `crowded` are the processes of the
    namespace with half of their descriptors in use or more, or with so many that they may hold most
    of the sockets in no table, `fullest` the largest such share of any process, None unseen;
    `breakdowns` tells what the descriptors of some of them are, by number.
    `conntrack` is what connection tracking holds, None on a kernel without it; its counters are
    among `counters` ("nf_conntrack.drop").  `watched` tells how connections idled and ended before,
    None where that was not watched.  `earlier` is the first of two samples of the same namespace.
    """

    taken_at: float
    host: Host
    source: str
    census: Census = Census()
    netns: str = HOST_NETNS
    counters: Mapping[str, int] = {}
    sockstat: Mapping[str, int] = {}
    sysctls: Mapping[str, str] = {}
    owners: Mapping[int, tuple[Owner, ...]] = {}
    crowded: tuple[Owner, ...] = ()
    fullest: float | None = None
    breakdowns: Mapping[int, Breakdown] = {}
    gaps: tuple[Gap, ...] = ()
    pace: Pace | None = None
    conntrack: Conntrack | None = None
    watched: Watched | None = None
    earlier: Snapshot | None = None

    @property
    def missing(self) -> frozenset[str]:
        """The keys of everything that was not seen at all."""
        return frozenset(gap.what for gap in self.gaps if not gap.partial)
