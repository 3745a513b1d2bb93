"""Read sockets through psutil: a second opinion without timers, queues or inodes."""

from __future__ import annotations

import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twdiag.census.addresses import bytes_of_text, text_of
from twdiag.errors import SourceRefused
from twdiag.model.snapshot import Gap
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets.seen import Seen, census_of_sockets
from twdiag.tcp import parse_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def read_psutil(sysctls: Mapping[str, str] = MappingProxyType({})) -> Seen:
    """Return what psutil.net_connections("tcp") shows; raises SourceRefused where it may not."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError) as error:
        raise SourceRefused(
            f"psutil cannot list the sockets: {error}", "use --source netlink"
        ) from error
    how = "use --source netlink"
    return Seen(
        census_of_sockets(lambda: _sockets_of(connections), sysctls),
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


def _sockets_of(connections: Iterable[Any]) -> Iterator[Socket]:
    for connection in connections:
        state = parse_state(connection.status)
        if state is not None:
            anywhere = "::" if connection.family == socket.AF_INET6 else "0.0.0.0"
            local, remote = connection.laddr or (anywhere, 0), connection.raddr or (anywhere, 0)
            yield Socket(state, *_plain(local), *_plain(remote))


def _plain(end: tuple[str, int]) -> tuple[str, int]:
    """Return an end without the name of its interface, which is no number, and not v4-mapped."""
    raw, _ = bytes_of_text(end[0].partition("%")[0])
    return text_of(raw), end[1]
