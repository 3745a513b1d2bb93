"""The values of `trace`: what the kernel tells while TCP connections end, and one ended connection.

No I/O.  Moments called `at` are nanoseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

IN_INTERRUPT: Final = 0x18
"""The bits of `flags` that say hard or soft interrupt, where `tid` is a bystander's.

TRACE_FLAG_HARDIRQ and TRACE_FLAG_SOFTIRQ in include/linux/trace_events.h.
"""


class StateChange(NamedTuple):
    """A socket changes its state: tracepoint sock:inet_sock_set_state.

    `sk` is the socket's address in the kernel, which a later socket may get again.  `addresses` are
    4 bytes of the local IPv4 address, 4 of the remote one, and 16 bytes of each as IPv6.
    """

    at: int
    flags: int
    tid: int
    sk: int
    old: int
    new: int
    local_port: int
    remote_port: int
    family: int
    addresses: bytes


class ResetSent(NamedTuple):
    """This host sends a RST for a socket: tcp:tcp_send_reset.

    `reason` is enum sk_rst_reason without its prefix, "" before Linux 6.10.  `local` and `remote`
    are struct sockaddr_in or sockaddr_in6, b"" on kernels that do not tell them so.
    """

    at: int
    sk: int
    reason: str
    local: bytes = b""
    remote: bytes = b""


class ResetReceived(NamedTuple):
    """A RST arrives that ends a socket: tcp:tcp_receive_reset."""

    at: int
    sk: int


class SocketGone(NamedTuple):
    """The kernel lets go of a socket: tcp:tcp_destroy_sock."""

    at: int
    flags: int
    tid: int
    sk: int
    cookie: int


class ThreadEnds(NamedTuple):
    """A thread begins to exit, before its files are closed: sched:sched_process_exit."""

    at: int
    name: str
    tid: int


class ThreadBegins(NamedTuple):
    """A thread is made, of its maker's process or of a new one: task:task_newtask.

    `flags` are those of clone(2).
    """

    at: int
    maker: int
    tid: int
    flags: int


class Killed(NamedTuple):
    """A thread gets SIGKILL: signal:signal_generate."""

    at: int
    tid: int


TraceEvent = (
    StateChange | ResetSent | ResetReceived | SocketGone | ThreadBegins | ThreadEnds | Killed
)


class Traffic(NamedTuple):
    """What struct tcp_info says of a socket at its death (include/uapi/linux/tcp.h).

    Ages in milliseconds, counted back from the death.  The bytes acknowledged hold our FIN and the
    SYN of an outgoing connection, the bytes received the peer's FIN.  `rtt` in microseconds.
    `waiting` are the bytes of data that were not sent at all, `data_segments_in` and
    `data_segments_sent` the segments with data, `delivered` those that were acknowledged (SYN and
    FIN too).  `min_rtt` is 0xFFFFFFFF where nothing ever was, `own_mss` 0 on
    a socket that never had to do with a peer.
    """

    retransmits: int
    probes: int
    backoff: int
    last_sent: int
    last_received: int
    last_ack: int
    rtt: int
    own_mss: int
    acked: int
    received: int
    segments_in: int
    waiting: int
    min_rtt: int
    data_segments_in: int
    data_segments_sent: int
    delivered: int
    sent: int | None
    resent: int | None


class Death(NamedTuple):
    """The kernel announces that it has let go of a socket of this network namespace.

    SKNLGRP_INET_TCP_DESTROY of NETLINK_SOCK_DIAG.  `unread` is the Recv-Q (the peer's FIN counts
    one), `unacked` the Send-Q.  `remote_port` is 0 where the socket was disconnected before (by
    SO_LINGER 0, by a failed connect(), by its listener's end); then `traffic` is wiped as well.
    """

    at: int
    cookie: int
    family: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    interface: int
    unread: int
    unacked: int
    traffic: Traffic | None

    @property
    def disconnected(self) -> bool:
        """Whether what the kernel knew of the connection was wiped before its end."""
        return self.remote_port == 0


class ClosedBy(enum.Enum):
    """Who closed a connection first, or gave it up."""

    HERE = "here"
    PEER = "peer"
    BOTH = "both"


class How(enum.Enum):
    """By which segments a connection ended."""

    FIN = "FIN"
    RST = "RST"
    FIN_RST = "FIN, RST"
    TIMEOUT = "timeout"


class Opened(enum.Enum):
    """Who opened a connection: this end (out) or the peer (in)."""

    OUT = "out"
    IN = "in"


class Why(enum.Enum):
    """Why a connection ended, as far as this end shows it; the value stands in JSON."""

    CLOSE = "close"
    SHUTDOWN = "shutdown"
    EXIT = "exit"
    KILLED = "killed"
    UNREAD = "unread-data"
    LINGER = "linger-zero"
    NEVER_ACCEPTED = "never-accepted"
    ABORT = "abort"
    LATE_DATA = "data-after-close"
    RESET = "reset-by-peer"
    KEEPALIVE = "keepalive-timeout"
    NO_ANSWER = "no-answer"
    FIN_UNANSWERED = "fin-unanswered"
    REFUSED = "refused"
    SYN_UNANSWERED = "syn-unanswered"
    CONNECT_FAILED = "connect-failed"
    GIVEN_UP = "connect-given-up"


class Closer(NamedTuple):
    """The thread that closed our end, and its process; None where they were gone too soon.

    `name` is the process's, or the thread's where the process is not known.
    """

    tid: int
    pid: int | None
    name: str | None
    thread: str | None


class Close(NamedTuple):
    """One connection's end, told by one of its ends.  Seconds; None is "not known".

    `ended_at` is Unix time.  `lived` is a lower bound where `older` is True.  `close_wait` is how
    long the peer's FIN waited for our close(), `idle` for how long no data had passed when the
    first of the two closed.  `sent` are the bytes of data that the peer acknowledged, `received`
    those that arrived, `requests` the most that it can have carried: the segments of data of the
    scarcer direction.  `dying` says that our end was closed because its process ended.  `open` says
    that a descriptor still holds the socket, which no table shows any more.  `observed` is False
    where `first`, `how` and `why` are reasoned from what the socket left behind.  `crossed` says
    that the peer sent data before it knew of our FIN, and got a RST for it.  `unanswered` are the
    bytes that this end sent and the peer did not acknowledge, a FIN counts one.  `peer_last` says
    that the last data came from the peer.
    """

    ended_at: float
    family: int
    local: str
    local_port: int
    remote: str
    remote_port: int
    first: ClosedBy | None = None
    how: How | None = None
    why: Why | None = None
    dying: bool = False
    opened: Opened | None = None
    closer: Closer | None = None
    lived: float | None = None
    older: bool = False
    close_wait: float | None = None
    idle: float | None = None
    sent: int | None = None
    received: int | None = None
    rtt: float | None = None
    open: bool = False
    observed: bool = True
    requests: int | None = None
    crossed: bool = False
    unanswered: int | None = None
    peer_last: bool = False


class Losses(NamedTuple):
    """What was not told: exact numbers, None where a source was not used.

    `trace_events` the ring buffer overwrote, `announcements` the netlink socket had no room for;
    each of the latter is one socket's end.  `elsewhere` counts the ends in other network
    namespaces, `unplaced` those whose descriptor is still open and whose namespace is not known.
    """

    trace_events: int | None = None
    announcements: int | None = None
    elsewhere: int = 0
    unplaced: int = 0
