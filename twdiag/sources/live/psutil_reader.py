"""Read sockets through psutil: a second opinion without timers, queues or inodes."""

from __future__ import annotations

import socket

from twdiag.census.table import Socket, SocketTable
from twdiag.errors import SourceRefused
from twdiag.model import Gap
from twdiag.sources.live.seen import Seen
from twdiag.tcp import parse_state


def read_psutil() -> Seen:
    """Return what psutil.net_connections("tcp") shows; raises SourceRefused where it may not."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError) as error:
        raise SourceRefused(f"psutil cannot list the sockets: {error}", "run as root") from error
    table = SocketTable()
    for connection in connections:
        state = parse_state(connection.status)
        if state is None:
            continue
        anywhere = "::" if connection.family == socket.AF_INET6 else "0.0.0.0"
        local, remote = connection.laddr or (anywhere, 0), connection.raddr or (anywhere, 0)
        table.add(Socket(state, local[0], local[1], remote[0], remote[1]))
    how = "use --source netlink"
    return Seen(
        table,
        gaps=[
            Gap("timers", "psutil does not show socket timers", how),
            Gap("queues", "psutil does not show Recv-Q and Send-Q", how),
            Gap("inodes", "psutil does not show socket inodes", how),
            Gap("backlog", "psutil does not show a listener's backlog", how),
            Gap("tcp-info", "psutil does not show how long a socket waits", how),
            Gap("bind-mode", "psutil does not show who chose a listener's port", how),
            Gap("bound", "psutil does not show bound, unconnected sockets", how, partial=True),
        ],
    )
