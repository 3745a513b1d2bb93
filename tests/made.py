"""Sockets and snapshots made by hand, where a live host would need minutes or luck.

The host that they are of is always the same: at MOMENT, with Linux's default sysctls, at 10.0.0.1.
Its clients connect to DATABASE, its servers listen on ports 443 and 8080.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twdiag import rules
from twdiag.analysis.view import View
from twdiag.model.findings import Severity
from twdiag.model.snapshot import Host, Owner, Snapshot
from twdiag.model.sockets import TIMER_KEEPALIVE, TIMER_RETRANSMIT, TIMER_TIME_WAIT, Socket, TcpInfo
from twdiag.rules import runner
from twdiag.sources.live.sockets.seen import census_of_sockets
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twdiag.model.census import Census
    from twdiag.model.findings import Finding, Report
    from twdiag.model.limits import Limits
    from twdiag.rules.rule import Rule

MOMENT: Final = 1_000_000.0
HERE: Final = "10.0.0.1"
DATABASE: Final = ("10.0.0.5", 5432)
SYSCTLS: Final = {
    "net.ipv4.ip_local_port_range": "32768 60999",
    "net.ipv4.ip_local_reserved_ports": "",
    "net.ipv4.tcp_fin_timeout": "60",
    "net.ipv4.tcp_max_tw_buckets": "131072",
    "net.ipv4.tcp_max_orphans": "65536",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_ehash_entries": "262144",
    "net.core.somaxconn": "4096",
}
"""The sysctls that rules read, as Linux has them after boot."""


# Snapshots and what the rules say of them.


def census_of(*sockets: Socket, sysctls: dict[str, str] = SYSCTLS) -> Census:
    """Return the census of these sockets."""
    return census_of_sockets(lambda: sockets, sysctls)


def snapshot_of(*sockets: Socket, **changes: Any) -> Snapshot:
    """Return a snapshot of the host with these sockets; `changes` replaces fields of it."""
    sysctls = changes.get("sysctls", SYSCTLS)
    waiting = sum(1 for socket in sockets if socket.is_mini)
    base = Snapshot(
        taken_at=MOMENT,
        host=Host("host", "6.1"),
        source="netlink",
        census=census_of(*sockets, sysctls=sysctls),
        counters={"TcpExt.ListenOverflows": 0, "TcpExt.TCPTimeWaitOverflow": 0},
        sockstat={"TCP.tw": waiting, "TCP.orphan": 0},
        sysctls=sysctls,
    )
    return base._replace(**changes)


def view_of(*sockets: Socket, **changes: Any) -> View:
    """Return the view of such a snapshot."""
    return View(snapshot_of(*sockets, **changes))


def limits_of(**limits: float) -> Limits:
    """Return the default limits but for some, written with underscores: `ports_notice=0.4`."""
    return rules.DEFAULTS.replaced(limits, "test")


def analyze(
    snapshot: Snapshot, limits: Limits, chosen: Iterable[Rule[Any]] = rules.RULES
) -> Report:
    """Return the report on a snapshot whose owners are known already."""
    view = View(snapshot)
    return runner.tell(runner.select(view, limits, chosen), view)


def report_of(snapshot: Snapshot, *chosen: str) -> Report:
    """Return the report on a snapshot, of some rules or of all, with the default limits."""
    return analyze(snapshot, rules.DEFAULTS, rules.choose(chosen))


def only_finding(snapshot: Snapshot, *chosen: str) -> Finding:
    """Return the one finding that some rules or all have on a snapshot."""
    (finding,) = report_of(snapshot, *chosen).findings
    return finding


def found(snapshot: Snapshot, **limits: float) -> dict[str, Severity]:
    """Return {rule: worst severity} of a snapshot."""
    result: dict[str, Severity] = {}
    for finding in analyze(snapshot, limits_of(**limits)).findings:
        result[finding.rule] = max(finding.severity, result.get(finding.rule, Severity.OK))
    return result


# Servers.


def listening(port: int, address: str = "0.0.0.0", **changes: Any) -> Socket:
    """Return a listener with an empty queue of 511 places; its inode is 7, its cookie 999."""
    base = Socket(State.LISTEN, address, port, "0.0.0.0", 0, send_q=511, inode=7, cookie=999)
    return base._replace(**changes)


LISTEN_8080: Final = listening(8080)


def served(n: int, port: int = 443) -> list[Socket]:
    """Return a listener on a port and n of its connections, to a few hundred clients."""
    return [listening(port)] + [
        Socket(State.ESTABLISHED, HERE, port, client(i), 40000 + i % 20000, inode=10_000 + i)
        for i in range(n)
    ]


def closed_first(n: int, port: int = 443, *, age: float = 30) -> list[Socket]:
    """Return n TIME_WAITs of a server here that closed first, each of another client's port."""
    left = int(60000 - age * 1000)
    return [
        Socket(State.TIME_WAIT, HERE, port, client(i), 40000 + i % 20000, TIMER_TIME_WAIT, left)
        for i in range(n)
    ]


def client(i: int) -> str:
    """Return the address of one of 40,000 clients, 200 to each 10.1.x.0/24."""
    return f"10.1.{i // 200 % 200}.{i % 200}"


# Clients.


def established(
    n: int, *, port: int = 32768, to: str = "10.0.0.5", dport: int = 5432, step: int = 2
) -> list[Socket]:
    """Return n connections of a client here; connect() takes every other port first."""
    return [
        Socket(State.ESTABLISHED, HERE, port + step * i, to, dport, inode=50_000 + i)
        for i in range(n)
    ]


def time_wait(
    n: int, *, port: int = 32768, to: str = "10.0.0.5", dport: int = 5432, age: float = 5
) -> list[Socket]:
    """Return n TIME_WAITs of a client here that closed first, on as many local ports."""
    left = int(60000 - age * 1000)
    return [
        Socket(State.TIME_WAIT, HERE, port + i, to, dport, TIMER_TIME_WAIT, left) for i in range(n)
    ]


def closes_at(
    rates: Iterable[tuple[int, int]], *, port: int = 32768, to: str = "10.0.0.5"
) -> list[Socket]:
    """Return TIME_WAITs of a client for (seconds ago, closes in that second)."""
    sockets: list[Socket] = []
    for second, number in rates:
        sockets += time_wait(number, port=port + len(sockets), to=to, age=second + 0.5)
    return sockets


# Sockets that wait for an application.


def close_wait(
    n: int, *, inode: int = 100, recv_q: int = 0, server: bool = True, timer: int = 0
) -> list[Socket]:
    """Return n CLOSE_WAITs of uid 33 with cookies 1..n and, if accepted, inodes inode..inode+n.

    They are connections of the server on port 8080, or of a client to the database.
    """
    return [
        Socket(
            State.CLOSE_WAIT,
            HERE,
            8080 if server else 40000 + 2 * i,
            "10.0.0.9" if server else DATABASE[0],
            50000 + i if server else DATABASE[1],
            timer,
            recv_q=recv_q,
            uid=33,
            inode=inode + i if inode else 0,
            cookie=1 + i,
        )
        for i in range(n)
    ]


def aged(sockets: Iterable[Socket], seconds: float) -> list[Socket]:
    """Return sockets that wait so long, as struct tcp_info shows it."""
    milliseconds = int(seconds * 1000)
    info = TcpInfo(0, milliseconds, milliseconds)
    return [socket._replace(info=info) for socket in sockets]


def spread(sockets: Sequence[Socket], seconds: float) -> list[Socket]:
    """Return sockets that have come at a steady rate, the first so many seconds ago."""
    return [
        one
        for n, socket in enumerate(sockets, start=1)
        for one in aged([socket], seconds * n / len(sockets))
    ]


def answered_by_keepalive(sockets: Iterable[Socket]) -> list[Socket]:
    """Return old sockets whose peer has answered a keepalive probe a second ago."""
    info = TcpInfo(0, 3_600_000, 1000)
    return [socket._replace(timer=TIMER_KEEPALIVE, info=info) for socket in sockets]


def held(n: int, fds: int, limit: int, pid: int = 812) -> dict[int, tuple[Owner, ...]]:
    """Return one process as the owner of the inodes 100.. of n sockets."""
    return {100 + i: (Owner(pid, "java", "app", fds, limit),) for i in range(n)}


def fin_wait2(n: int, *, to: str = "10.0.0.5", dport: int = 5432) -> list[Socket]:
    """Return n connections that a process shut down and still holds, inodes 100.., cookies 1..n."""
    return [
        Socket(State.FIN_WAIT2, HERE, 40000 + 2 * i, to, dport, inode=100 + i, cookie=1 + i)
        for i in range(n)
    ]


def orphans(n: int, *, left: float, port: int = 443) -> list[Socket]:
    """Return n FIN_WAIT2s of a server here after close(), which the kernel drops in `left` s."""
    return [
        Socket(State.FIN_WAIT2, HERE, port, client(i), 40000 + i, TIMER_TIME_WAIT, int(left * 1000))
        for i in range(n)
    ]


# Sockets that wait for a peer.


def unanswered(n: int, *, clients: int = 1) -> list[Socket]:
    """Return FIN_WAIT1s of the server on 443 to so many clients, each retransmitted four times."""
    return [
        Socket(
            State.FIN_WAIT1, HERE, 443, f"10.3.0.{i % clients}", 50000 + i, TIMER_RETRANSMIT, 900, 4
        )
        for i in range(n)
    ]


def syn_sent(n: int, *, retrans: int = 3, to: str = "10.3.0.1", dport: int = 80) -> list[Socket]:
    """Return n connection attempts, each retransmitted so often."""
    return [
        Socket(
            State.SYN_SENT,
            HERE,
            40000 + i,
            to,
            dport,
            TIMER_RETRANSMIT,
            900,
            retrans,
            inode=100 + i,
        )
        for i in range(n)
    ]
