"""Read sockets through pyroute2's DiagSocket: an independent second opinion on our own decoder."""

from __future__ import annotations

from typing import Any

from twdiag.census.table import BOUND, Socket, SocketTable
from twdiag.errors import SourceRefused
from twdiag.model import Gap
from twdiag.sources.live.inet_diag import AF_INET, AF_INET6, ALL_STATES
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.seen import Seen
from twdiag.tcp import State


def read_pyroute2() -> Seen:
    """Return what DiagSocket shows.

    It returns an empty tuple where the kernel refuses a dump, so no socket of a family is taken for
    a refusal unless /proc agrees that there is none: raises SourceRefused.
    """
    from pyroute2 import DiagSocket

    table = SocketTable()
    try:
        with DiagSocket() as diag:
            diag.bind()
            for family, path in ((AF_INET, "/proc/net/tcp"), (AF_INET6, "/proc/net/tcp6")):
                messages = diag.get_sock_stats(family=family, states=ALL_STATES)
                if not messages and _has_rows(path):
                    raise SourceRefused(
                        f"the kernel refuses pyroute2's socket dump: it shows none of {path}",
                        "use --source proc",
                    )
                for message in messages:
                    _add(table, message)
    except OSError as error:
        raise SourceRefused(
            f"pyroute2 cannot open a netlink socket: {error.strerror}", "use --source proc"
        ) from error
    how = "use --source netlink"
    return Seen(
        table,
        gaps=[
            Gap("tcp-info", "the pyroute2 reader does not ask for tcp_info", how),
            Gap("bind-mode", "the pyroute2 reader does not ask who chose a port", how),
        ],
    )


def _add(table: SocketTable, message: Any) -> None:
    state = message["idiag_state"]
    # The interface, without which a link-local address means nothing; others leave it out.
    scope = f"%{message['idiag_if']}" if message["idiag_family"] == AF_INET6 else ""
    number = State.SYN_RECV if state == 12 else State.CLOSE if state == BOUND else State(state)
    row = Socket(
        number,
        message["idiag_src"] + scope,
        message["idiag_sport"],
        message["idiag_dst"] + scope,
        message["idiag_dport"],
        message["idiag_timer"],
        message["idiag_expires"],
        message["idiag_retrans"],
        message["idiag_rqueue"],
        message["idiag_wqueue"],
        message["idiag_uid"],
        message["idiag_inode"],
        message["idiag_cookie"],
    )
    index = table.add(row)
    if number is State.CLOSE:
        table.bound.add(index)
    if number is State.LISTEN and message.get_attr("INET_DIAG_SKV6ONLY"):
        table.v6only.add(index)


def _has_rows(path: str) -> bool:
    return len((read_text(path) or "").splitlines()) > 1
