"""Which end a thread waits for: the peer of the finding's sockets, an upstream, a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.analysis.upstreams import described, service_at
from twdiag.model.waits import Act, EndRole, FarEnd, FdKind
from twdiag.tcp import State
from twdiag.wording import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.analysis.upstreams import EndNames
    from twdiag.model.sockets import Socket
    from twdiag.model.waits import Descriptor, OtherSocket, ThreadWait


def end_of(
    thread: ThreadWait,
    concerned: Mapping[int, Socket],
    sockets: Mapping[int, Socket],
    names: EndNames,
) -> FarEnd | None:
    """Return the end a thread waits for, None where it is none or one of many."""
    targets = [target for target in thread.targets if target.kind is FdKind.SOCKET]
    # One socket, and perhaps a pipe to be woken by: a read with a timeout.  More is a loop.
    if thread.act is Act.POLL and len(targets) != 1:
        return None
    if not targets:
        return _other_end(thread.targets[0]) if thread.targets else None
    inode = targets[0].inode or 0
    row = concerned.get(inode) or sockets.get(inode)
    if row is None:
        # One that is read no more can have been closed before its row was looked up.
        return _unlisted_end(names.others.get(inode)) if thread.still else None
    return _socket_end(inode, row, concerned, names)


def _socket_end(
    inode: int, row: Socket, concerned: Mapping[int, Socket], names: EndNames
) -> FarEnd:
    if row.state is State.LISTEN:
        return FarEnd(EndRole.LISTENER, row.local_address, row.local_port, "")
    if inode in concerned:
        return FarEnd(EndRole.PEER, None, None, "")
    if names.serves(row.local_address, row.local_port):
        return FarEnd(EndRole.CLIENT, None, None, "")
    name = names.of(row.remote_address, row.remote_port)
    return FarEnd(EndRole.UPSTREAM, row.remote_address, row.remote_port, name)


def _unlisted_end(other: OtherSocket | None) -> FarEnd:
    """Return the end of a socket that no TCP table shows: a Unix socket mostly."""
    if other is None:
        return FarEnd(EndRole.LOCAL, None, None, "a socket that is not known")
    if other.protocol.startswith("UNIX"):
        return _unix_end(other)
    name = "a socket that no TCP table shows"
    if not other.protocol.startswith("TCP"):
        name = _PROTOCOLS.get(other.protocol, f"a socket of protocol {visible(other.protocol)}")
    return FarEnd(EndRole.LOCAL, None, None, name)


_PROTOCOLS: Final = {
    "UDP": "a UDP socket",
    "UDPv6": "a UDP socket",
    "NETLINK": "a netlink socket",
    "PACKET": "a packet socket",
    "RAW": "a raw socket",
    "RAWv6": "a raw socket",
}
"""Names of struct proto and what they are called; TCP is not among them."""


def _unix_end(other: OtherSocket) -> FarEnd:
    """Return the end of a Unix socket, by the path of whichever end has one."""
    program = f" ({visible(other.program)})" if other.program else ""
    if other.peer_path:
        role = EndRole.UPSTREAM if service_at(other.peer_path) else EndRole.LOCAL
        return FarEnd(role, None, None, f"the Unix socket {visible(other.peer_path)}{program}")
    if other.path:
        of = "a client of " if other.connected else ""
        program = program if other.connected else ""
        name = f"{of}the Unix socket {visible(other.path)}{program}"
        return FarEnd(EndRole.LOCAL, None, None, name)
    return FarEnd(EndRole.LOCAL, None, None, f"a Unix socket{program}")


def _other_end(target: Descriptor) -> FarEnd | None:
    if target.kind is FdKind.EPOLL:
        return None
    if target.kind in (FdKind.FILE, FdKind.DEVICE):
        return FarEnd(EndRole.LOCAL, None, None, visible(target.name))
    return FarEnd(EndRole.LOCAL, None, None, f"a {target.kind.value}")


def end_text(end: FarEnd) -> str:
    """Return which end it is: an upstream by address and name, else its part."""
    if end.role is EndRole.PEER:
        return "the other end of these sockets"
    if end.role is EndRole.CLIENT:
        return "clients"
    if end.address is None or end.port is None:
        return end.name
    return described(end.address, end.port, end.name)
