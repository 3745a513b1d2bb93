"""One socket as the kernel shows it, readable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from twdiag.tcp import State

BOUND: Final = 13
"""Bound but neither listening nor connected: the kernel's TCP_BOUND_INACTIVE pseudo-state.

sock_diag selects such sockets by this state bit and reports them in state CLOSE (Linux 6.8).
"""

# Values of idiag_timer (net/ipv4/inet_diag.c) and of the `tr` field of /proc/net/tcp.
TIMER_NONE: Final = 0
TIMER_RETRANSMIT: Final = 1
TIMER_KEEPALIVE: Final = 2
TIMER_TIME_WAIT: Final = 3
TIMER_ZERO_WINDOW: Final = 4


class TcpInfo(NamedTuple):
    """The ages of one full socket from struct tcp_info (include/uapi/linux/tcp.h), milliseconds."""

    last_data_sent: int
    last_data_recv: int
    last_ack_recv: int


class Socket(NamedTuple):
    """One socket.  Addresses are plain text, v4-mapped ones folded to IPv4.

    `expires` is the milliseconds until the timer fires; `recv_q` and `send_q` are bytes, except in
    LISTEN, where they are the accept queue and its backlog.  `bound` marks a socket that is bound
    and neither listens nor is connected, `auto_bound` a listener whose port the kernel chose (None
    where that was not asked), `cgroup` the inode of its cgroup's folder, 0 unseen.
    """

    state: State
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    timer: int = TIMER_NONE
    expires: int = 0
    retrans: int = 0
    recv_q: int = 0
    send_q: int = 0
    uid: int = 0
    inode: int = 0
    cookie: int = 0
    bound: bool = False
    v6only: bool = False
    mptcp: bool = False
    auto_bound: bool | None = None
    cgroup: int = 0
    info: TcpInfo | None = None

    @property
    def is_mini(self) -> bool:
        """Whether it is a mini-socket: TIME_WAIT, or FIN_WAIT2 after close()."""
        return self.timer == TIMER_TIME_WAIT
