"""NAT in the lab really runs out of ports, and really gives them back."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from tests.made import found
from tests.sources.live.confinement import in_child
from twdiag import sources
from twdiag.errors import SourceRefused
from twdiag.lab import kernel, nat
from twdiag.lab.network import MAIN_ADDRESS, PEER_ADDRESS, connect_peer, enter_private
from twdiag.model.findings import Severity
from twdiag.sources.live.netfilter.conntrack import read_counters

PORT = 7140


def connect_through(number: int) -> list[socket.socket]:
    """Open so many connections, each of which finds a port."""
    return [socket.create_connection((PEER_ADDRESS, PORT), timeout=20) for _ in range(number)]


def fail_to_connect() -> bool:
    """Try to connect, and return whether nothing came of it."""
    with socket.socket() as one:
        one.settimeout(0.5)
        try:
            one.connect((PEER_ADDRESS, PORT))
        except TimeoutError:
            return True
    return False


def play() -> Any:
    """Fill 40 ports, fail twice, close all, and open ten again."""
    try:
        enter_private()
        peer = connect_peer()
        nat.give_source(PORT, MAIN_ADDRESS, 40000, 40039)
    except (SourceRefused, OSError) as error:
        return str(error)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    kernel.setns(peer)
    server = socket.create_server((PEER_ADDRESS, PORT))
    kernel.setns(home)
    opened = connect_through(40)
    accepted = [server.accept() for _ in opened]
    full = sources.collect()
    before = read_counters()
    failed = [fail_to_connect() for _ in range(2)]
    failing = sources.collect()
    after = read_counters()
    for one, (other, _) in zip(opened, accepted, strict=True):
        one.close()
        assert other.recv(1) == b""
        other.close()
    again = connect_through(10)
    used_again = sources.collect()
    ports = {end[1] for _, end in accepted}
    return (full, failing, used_again), (before, after), (failed, len(again)), ports


def test_forty_ports_take_forty_connections_and_closed_ones_give_way() -> None:
    seen = in_child(play)
    if isinstance(seen, str):
        pytest.skip(f"no namespace with SNAT can be made: {seen}")
    (full, failing, used_again), (before, after), numbers, ports = seen
    assert ports == set(range(40000, 40040))
    assert numbers == ([True, True], 10)
    # Two at least: a loaded machine may take so long that a SYN is repeated.
    assert after.insert_failed - before.insert_failed == after.drop - before.drop >= 2
    assert found(full) == {"snat-ports-running-out": Severity.CRITICAL}
    compared = failing._replace(earlier=full)
    assert found(compared) == {"snat-ports-running-out": Severity.CRITICAL}
    (states,) = used_again.conntrack.snats.values()
    assert states["ESTABLISHED"] == 10
    assert found(used_again) == {}
