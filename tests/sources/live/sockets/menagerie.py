"""Sockets of every kind in one namespace, made by real programs, and each reader's view of them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

from twdiag.lab.actors import (
    Program,
    Sockets,
    await_end,
    call_out,
    close,
    close_first,
    connect,
    end_with_reset,
    listen,
    meet,
    send,
    shut,
    turn_deaf,
)
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenario import Scenario
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets import proc_tcp, psutil_reader, pyroute2_reader
from twdiag.sources.live.sockets.channel import Channel
from twdiag.sources.live.sockets.inet_diag import ALL_STATES
from twdiag.sources.live.sockets.netlink import read_netlink
from twdiag.sources.live.sockets.seen import census_of_sockets
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from twdiag.lab import Stage
    from twdiag.model.census import Census
    from twdiag.sources.live.sockets.seen import Seen

NOBODY = 65534
LINK_LOCAL = "fe80::77"
FILL = 1 << 16


def build(stage: Stage) -> None:
    """Bring about every state and timer that stays for a second."""
    peer_address = stage.peer()
    server, client = Program(stage, "server"), Program(stage, "client")
    peer = Program(stage, "peer", peer=True)
    deaf = Program(stage, "deaf", peer=True)

    # Listeners: one address, all of both families, all of IPv6, copies, and ports of the kernel's.
    server.do(listen, MAIN_ADDRESS, 8080, backlog=5)
    server.do(listen, "::", 8081, backlog=7)
    server.do(listen_ipv6_only, 8082)
    for _ in range(3):
        server.do(listen, "127.0.0.1", 8083, shared=True)
    server.do(listen, "127.0.0.1", 0)
    server.do(listen, "::", 0)
    server.do(listen_without_bind)
    server.do(listen_link_local)
    client.do(bind_only, "127.0.0.1", 7001)
    client.do(bind_only, "::1", 7002)

    # TIME_WAIT at either end, of IPv4, IPv6 and IPv4 on an IPv6 socket.
    for address in ("127.0.0.1", "::1"):
        pair = Program(stage, "server"), Program(stage, "client")
        pair[0].do(listen, address, 9001)
        meet(pair[1], pair[0], 6, address, 9001)
        close_first(*pair, 3)
        close_first(pair[1], pair[0], 3)
        pair[0].do(stop_listening)
    meet(client, server, 4, "127.0.0.1", 8081)
    close_first(server, client, 2)

    # ESTABLISHED (two are left of those), with unread data, with keepalive, of another user.
    client.do(send, b"unread")
    client.do(keep_alive)
    program = Program(stage, "nobody")
    program.do(become_nobody)
    meet(program, server, 1, "127.0.0.1", 8083)

    # CLOSE_WAIT drained, unread and never accepted; FIN_WAIT2 held and left.
    waiting = Program(stage, "waiting")
    waiting.do(listen, MAIN_ADDRESS, 9100, backlog=9)
    meet(peer, waiting, 5, MAIN_ADDRESS, 9100)
    peer.do(close, 2)
    waiting.do(await_end, 2)
    peer.do(close, 1, last_words=b"last words")
    peer.do(connect, 2, MAIN_ADDRESS, 9100)
    peer.do(close)
    holder, other = Program(stage, "holder"), Program(stage, "other", peer=True)
    other.do(listen, peer_address, 9200)
    meet(holder, other, 4, peer_address, 9200)
    holder.do(shut, 2)
    other.do(await_end, 2)
    holder.do(shut)
    other.do(await_end)
    holder.do(close, 2)

    # A zero window, an unanswered FIN and an unanswered SYN; each gives up long after the test.
    deaf.do(listen, peer_address, 9300)
    sender = Program(stage, "sender")
    meet(sender, deaf, 3, peer_address, 9300)
    sender.do(fill, 1)
    deaf.do(turn_deaf)
    deaf.do(end_with_reset)
    sender.do(close_last, 1)
    sender.do(call_out, 1, peer_address, 9300)
    stage.wait_for({State.FIN_WAIT1: 1, State.SYN_SENT: 1, State.CLOSE_WAIT: 7})


SCENARIO = Scenario("menagerie", "sockets of every kind", "", build)


# Deeds that only these sockets need.


def listen_ipv6_only(sockets: Sockets, port: int) -> None:
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(("::", port))
    listener.listen(3)
    listener.setblocking(False)
    sockets.listening.append(listener)


def listen_without_bind(sockets: Sockets) -> None:
    listener = socket.socket()
    listener.listen(3)
    listener.setblocking(False)
    sockets.listening.append(listener)


def listen_link_local(sockets: Sockets) -> None:
    """Listen on an address that means nothing without its interface."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.addr("add", index=1, address=LINK_LOCAL, prefixlen=64)
    listener = socket.socket(socket.AF_INET6)
    # The kernel readies a new address in the background, loopback or not.
    deadline = time.monotonic() + 10
    while True:
        try:
            listener.bind((LINK_LOCAL, 8084, 0, 1))
            break
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    listener.listen(3)
    listener.setblocking(False)
    sockets.listening.append(listener)


def bind_only(sockets: Sockets, address: str, port: int) -> None:
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    bound.bind((address, port))
    sockets.listening.append(bound)


def stop_listening(sockets: Sockets) -> None:
    for listener in sockets.listening:
        listener.close()
    sockets.listening.clear()


def keep_alive(sockets: Sockets) -> None:
    """Probe the first connection, not before two hours have passed."""
    sockets.connected[0].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def become_nobody(_: Sockets) -> None:
    """Be another user, where this user namespace has one."""
    with contextlib.suppress(OSError):
        os.setresuid(NOBODY, NOBODY, NOBODY)


def fill(sockets: Sockets, count: int) -> None:
    """Send until the peer's window is closed and its probes are answered."""
    for connection in sockets.connected[:count]:
        connection.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                connection.send(bytes(FILL))


def close_last(sockets: Sockets, count: int) -> None:
    for connection in sockets.connected[-count:]:
        connection.close()
    del sockets.connected[-count:]


# What each reader shows.


@dataclass
class Views:
    """The same sockets by every reader, and by our own before and after the others."""

    before: list[Socket]
    after: list[Socket]
    readers: dict[str, list[Socket]]
    censuses: dict[str, Census]
    bound: set[Socket]
    v6only: dict[str, set[int]]
    auto_bound_ports: set[int]
    interfaces: dict[int, int]
    ages: dict[int, tuple[int, int]]
    ages_after: dict[int, tuple[int, int]]
    raw_ages: dict[int, tuple[int, int]]
    ss: list[str] | None

    @property
    def restless(self) -> set[tuple[str, int, str, int]]:
        """The ends of the sockets whose timer fired between our own two looks."""
        return {
            ends(one)
            for one, other in zip(self.before, self.after, strict=True)
            if one.timer in (1, 4) and (one.retrans != other.retrans or one.expires < other.expires)
        }


def observe(_stage: Stage) -> Views:
    """Look with every reader; again if a retransmission came between our own two looks."""
    views = _look()
    for _ in range(3):
        if not views.restless:
            break
        time.sleep(0.05)
        views = _look()
    return views


def _look() -> Views:
    census, own = read_netlink().census, _by_netlink()
    readers, censuses = {}, {"netlink": census}
    for name, module, read in (
        ("proc", proc_tcp, proc_tcp.read_proc),
        ("psutil", psutil_reader, psutil_reader.read_psutil),
        ("pyroute2", pyroute2_reader, pyroute2_reader.read_pyroute2),
    ):
        readers[name], censuses[name] = _seen_by(module, read)
    raw, raw_ages, interfaces = _raw_pyroute2()
    ss = _ss()
    again, later = read_netlink().census, _by_netlink()
    return Views(
        _sorted(own),
        _sorted(later),
        {
            **{name: _sorted(sockets) for name, sockets in readers.items()},
            "DiagSocket": _sorted(raw),
        },
        censuses,
        {socket for socket in own if socket.bound},
        {
            name: {s.local_port for s in sockets if s.v6only and s.state is State.LISTEN}
            for name, sockets in (("netlink", own), ("pyroute2", readers["pyroute2"]))
        },
        {s.local_port for s in census.sockets if s.auto_bound and s.state is State.LISTEN},
        interfaces,
        _ages(census),
        _ages(again),
        raw_ages,
        ss,
    )


def _by_netlink() -> list[Socket]:
    """Return all sockets of our own dump one by one, those too that are only counted."""
    with Channel() as channel:
        return [s for block in channel.read(ALL_STATES) for s in block.sockets()]


def _seen_by(module: ModuleType, read: Callable[[], Seen]) -> tuple[list[Socket], Census]:
    """Return the sockets that a reader hands to the census, and what they add up to."""
    sockets: list[Socket] = []

    def noting(read_again: Callable[[], Iterable[Socket]], sysctls: Mapping[str, str]) -> Census:
        sockets.extend(read_again())
        return census_of_sockets(lambda: sockets, sysctls)

    with mock.patch.object(module, "census_of_sockets", noting):
        census = read().census
    return sockets, census


def _ages(census: Census) -> dict[int, tuple[int, int]]:
    waiting = (State.CLOSE_WAIT, State.FIN_WAIT2)
    return {
        s.cookie: (s.info.last_data_recv, s.info.last_ack_recv)
        for s in census.sockets
        if s.info and s.state in waiting
    }


def _sorted(rows: Iterable[Socket]) -> list[Socket]:
    return sorted(rows, key=lambda row: (row.local_port, row.remote_port, row.cookie, row.inode))


def ends(row: Socket) -> tuple[str, int, str, int]:
    """Return the ends of a row, without the interface of link-local addresses."""
    local, remote = (a.partition("%")[0] for a in (row.local_address, row.remote_address))
    return local, row.local_port, remote, row.remote_port


def _raw_pyroute2() -> tuple[list[Socket], dict[int, tuple[int, int]], dict[int, int]]:
    """Return what DiagSocket has, by its own names: rows, ages by cookie, interfaces by cookie."""
    from pyroute2 import DiagSocket

    rows, ages, interfaces = [], {}, {}
    with DiagSocket() as diag:
        diag.bind()
        for family in (socket.AF_INET, socket.AF_INET6):
            for m in diag.get_sock_stats(family=family, states=ALL_STATES, extensions=1 << 1):
                ends = [
                    re.sub("^::ffff:(?=.*[.])", "", m[f"idiag_{end}"]) for end in ("src", "dst")
                ]
                rows.append(
                    Socket(
                        State(m["idiag_state"]),
                        ends[0],
                        m["idiag_sport"],
                        ends[1],
                        m["idiag_dport"],
                        m["idiag_timer"],
                        m["idiag_expires"],
                        m["idiag_retrans"],
                        m["idiag_rqueue"],
                        m["idiag_wqueue"],
                        m["idiag_uid"],
                        m["idiag_inode"],
                        m["idiag_cookie"],
                    )
                )
                interfaces[m["idiag_cookie"]] = m["idiag_if"]
                info = m.get_attr("INET_DIAG_INFO")
                if info is not None:
                    ages[m["idiag_cookie"]] = (
                        info["tcpi_last_data_recv"],
                        info["tcpi_last_ack_recv"],
                    )
    return rows, ages, interfaces


def _ss() -> list[str] | None:
    path = shutil.which("ss")
    if path is None:
        return None
    done = subprocess.run([path, "-tanoeH"], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.splitlines()
