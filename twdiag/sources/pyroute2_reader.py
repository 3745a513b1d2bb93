"""Read sockets through pyroute2's DiagSocket: an independent second opinion on our own decoder."""

from __future__ import annotations

from typing import Any

from twdiag.errors import SourceRefused
from twdiag.model import Gap
from twdiag.sources.inet_diag import AF_INET, AF_INET6, ALL_STATES
from twdiag.sources.seen import Seen
from twdiag.table import BOUND, Socket, SocketTable
from twdiag.tcp import State


def read_pyroute2() -> Seen:
    """Return what DiagSocket shows.

    It returns an empty tuple where the kernel refuses a dump, so nothing at all in both families is
    taken for a refusal unless /proc agrees that there are no sockets: raises SourceRefused.
    """
    from pyroute2 import DiagSocket

    table = SocketTable()
    try:
        with DiagSocket() as diag:
            diag.bind()
            for family in (AF_INET, AF_INET6):
                for message in diag.get_sock_stats(family=family, states=ALL_STATES):
                    _add(table, message)
    except OSError as error:
        raise SourceRefused(
            f"pyroute2 cannot open a netlink socket: {error.strerror}", "use --source proc"
        ) from error
    if not len(table) and _proc_has_sockets():
        raise SourceRefused(
            "the kernel refuses pyroute2's socket dump (it came back empty)", "use --source proc"
        )
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


def _proc_has_sockets() -> bool:
    from twdiag.sources.proc import read_proc

    return len(read_proc().table) > 0
