"""Rows of sockets in columns, as a reader hands them over: some thousands at a time."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from twdiag.census.addresses import bytes_of_text, word
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from twdiag.model.sockets import Socket


class Rows(NamedTuple):
    """Connected sockets of one family; v4-mapped ones are IPv4.

    `states` and `timers` have a byte a row, ports are in host order, `expires` in milliseconds.
    IPv4 addresses are native 32-bit words, in network order in memory; a local IPv6 address is 16
    bytes, or 20 with the scope of a link-local one; a remote one is 20, with scope 0 else.
    """

    states: bytes
    timers: bytes
    local_ports: array[int]
    remote_ports: array[int]
    local: array[int] | list[bytes]
    remote: array[int] | list[bytes]
    expires: array[int]
    inodes: array[int]

    @classmethod
    def of(cls, socket: Socket) -> Rows:
        """Return one readable socket as a row; raises ValueError where a value fits no column."""
        (local, near), (remote, scope) = map(
            bytes_of_text, (socket.local_address, socket.remote_address)
        )
        ipv4 = len(remote) == len(local) == 4
        try:
            return cls(
                bytes([socket.state]),
                bytes([socket.timer]),
                array("H", [socket.local_port]),
                array("H", [socket.remote_port]),
                array("I", [word(local)])
                if ipv4
                else [_ipv6(local) + (_scope(near) if near else b"")],
                array("I", [word(remote)]) if ipv4 else [_ipv6(remote) + _scope(scope)],
                array("I", [min(socket.expires, 0xFFFFFFFF)]),
                array("I", [socket.inode]),
            )
        except (ValueError, OverflowError) as error:
            raise ValueError(f"not a socket: {socket}") from error


def _ipv6(raw: bytes) -> bytes:
    # One end v4-mapped and the other not is no connection, but a table may say so.
    return raw if len(raw) == 16 else bytes(10) + b"\xff\xff" + raw


def _scope(number: int) -> bytes:
    return number.to_bytes(4, "big")
