"""Idle times of established connections: decoded as the kernel writes them, and broken."""

from __future__ import annotations

import socket
import struct
import time

from hypothesis import given
from hypothesis import strategies as st

from tests.engine import endings
from tests.engine.privately import become_nobody, in_private
from twdiag.census.listeners import listeners_of
from twdiag.model.idling import Standing
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets.blocks import Block
from twdiag.sources.live.sockets.idling import StandingConnections, read_standing, standing_of
from twdiag.tcp import State

LISTENERS = listeners_of([Socket(State.LISTEN, "0.0.0.0", 8080, "0.0.0.0", 0)])


def info(size: int = 240, *, sent: int = 0, came: int = 0, received: int = 0) -> bytes:
    """Return a struct tcp_info with its attribute's head."""
    whole = bytearray(size)
    for offset, code, value in ((44, "I", sent), (52, "I", came), (128, "Q", received)):
        if offset + 8 <= size:
            struct.pack_into(f"={code}", whole, offset, value)
    return struct.pack("=HH", size + 4, 2) + bytes(whole)


def row(attributes: bytes = b"", *, port: int = 8080, local: str = "10.0.0.1") -> bytes:
    """Return an established row as sock_diag has it."""
    message = struct.pack(
        "=BBBB2s2s16s16sIQ5I", 2, 1, 0, 0, struct.pack("!H", port), struct.pack("!H", 40000),
        socket.inet_aton(local).ljust(16, b"\0"), socket.inet_aton("10.0.0.9").ljust(16, b"\0"),
        0, 77, 0, 0, 0, 0, 0,
    )  # fmt: skip
    return (
        struct.pack("=IHHII", 16 + len(message) + len(attributes), 20, 2, 1, 0)
        + message
        + attributes
    )


def decoded(*rows: bytes) -> list[Standing]:
    """Return what equally long rows tell."""
    return list(standing_of(Block(b"".join(rows), len(rows[0])), LISTENERS))


def test_a_row_is_decoded() -> None:
    (one,) = decoded(row(info(sent=1500, came=1700, received=42)))
    assert one == Standing("10.0.0.1", 8080, "10.0.0.9", 40000, 77, 1.5, True, 42)


def test_a_request_without_an_answer_is_not_answered() -> None:
    (one,) = decoded(row(info(sent=9000, came=1700, received=42)))
    assert (one.idle, one.answered) == (1.7, False)


def test_a_connection_without_a_request_waits_for_its_first() -> None:
    (one,) = decoded(row(info(sent=1500, came=1500)))
    assert not one.answered


def test_only_listeners_connections_with_all_of_it_are_told() -> None:
    assert decoded(row(info(), port=9090)) == []
    assert decoded(row()) == []
    assert decoded(row(info(120))) == []  # before Linux 4.1
    assert decoded(row(struct.pack("=HHI", 8, 15, 0) + info(received=5)))[0].received == 5


@given(st.lists(st.binary(min_size=96, max_size=96), min_size=1, max_size=4))
def test_no_bytes_break_the_decoder(rows: list[bytes]) -> None:
    ours = row()[:20] + struct.pack("!H", 8080)
    for one in decoded(*(ours + tail[22:] for tail in rows)):
        assert one.local_port == 8080


@given(st.binary(min_size=4, max_size=300), st.sampled_from([2, 10]))
def test_no_attributes_break_the_decoder(attributes: bytes, family: int) -> None:
    padded = attributes + bytes(-len(attributes) % 4)
    raw = bytearray(row(padded))
    raw[16] = family
    for one in decoded(bytes(raw)):
        assert one.idle >= 0
        assert one.received >= 0


def seen(ports: tuple[int, ...] = ()) -> tuple[StandingConnections, int, int]:
    """Return a look at two real connections, one used, and the ports of the client's ends."""
    with endings.listen(7400) as listener:
        used, server = endings.connected(listener)
        new, _keep = endings.connected(listener)
        used.sendall(b"request")
        server.recv(7)
        server.sendall(b"answer")
        used.recv(6)
        become_nobody()
        began = time.monotonic()
        while time.monotonic() - began < 0.3:
            time.sleep(0.05)
        return read_standing(ports), used.getsockname()[1], new.getsockname()[1]


def test_real_connections_are_told_to_any_user() -> None:
    look, used, new = in_private(seen)
    assert look.ports == {7400}
    by_port = {one.remote_port: one for one in look.standing}
    assert set(by_port) == {used, new}  # the clients' ends are no listener's
    assert by_port[used].received == 7
    assert by_port[used].answered
    assert by_port[used].idle >= 0.29
    assert not by_port[new].answered


def test_only_the_ports_asked_for_are_looked_at() -> None:
    look, _, _ = in_private(lambda: seen((7401,)))
    assert look == StandingConnections([], frozenset())
