"""Read sockets through pyroute2's DiagSocket: an independent second opinion on our own decoder."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twdiag.census.addresses import bytes_of_text, text_of
from twdiag.errors import SourceRefused
from twdiag.model.snapshot import Gap
from twdiag.model.sockets import BOUND, Socket
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.sockets.inet_diag import AF_INET, AF_INET6, ALL_STATES
from twdiag.sources.live.sockets.seen import Seen, census_of_sockets
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_pyroute2(sysctls: Mapping[str, str] = MappingProxyType({})) -> Seen:
    """Return what DiagSocket shows.

    It returns an empty tuple where the kernel refuses a dump, so no socket of a family is taken for
    a refusal unless /proc agrees that there is none: raises SourceRefused.
    """
    from pyroute2 import DiagSocket

    sockets: list[Socket] = []
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
                sockets += map(_socket_of, messages)
    except OSError as error:
        raise SourceRefused(
            f"pyroute2 cannot open a netlink socket: {error.strerror}", "use --source proc"
        ) from error
    how = "use --source netlink"
    return Seen(
        census_of_sockets(lambda: sockets, sysctls),
        gaps=[
            Gap("tcp-info", "the pyroute2 reader does not ask for tcp_info", how),
            Gap("bind-mode", "the pyroute2 reader does not ask who chose a port", how),
        ],
    )


def _socket_of(message: Any) -> Socket:
    state = message["idiag_state"]
    # The interface, without which a link-local address means nothing; others leave it out.
    interface = message["idiag_if"]
    return Socket(
        State.SYN_RECV if state == 12 else State.CLOSE if state == BOUND else State(state),
        _address(message["idiag_src"], interface),
        message["idiag_sport"],
        _address(message["idiag_dst"], interface),
        message["idiag_dport"],
        message["idiag_timer"],
        message["idiag_expires"],
        message["idiag_retrans"],
        message["idiag_rqueue"],
        message["idiag_wqueue"],
        message["idiag_uid"],
        message["idiag_inode"],
        message["idiag_cookie"],
        bound=state in (BOUND, State.CLOSE),
        v6only=bool(message.get_attr("INET_DIAG_SKV6ONLY")),
    )


def _address(text: str, interface: int) -> str:
    raw, _ = bytes_of_text(text)
    return text_of(raw, interface)


def _has_rows(path: str) -> bool:
    return len((read_text(path) or "").splitlines()) > 1
