"""What sockets are that no TCP table shows, from real ones of real processes."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.sources.live.processes.blocked import NOBODY, as_user, blocked
from twdiag.model.waits import Act, FdKind, OtherSocket, ProcessWaits, ThreadWait
from twdiag.sources.live.processes.descriptors import descriptors
from twdiag.sources.live.processes.other_sockets import read_others

if TYPE_CHECKING:
    from pathlib import Path


def asked(*ends: socket.socket, pid: int | None = None) -> dict[int, OtherSocket]:
    """Return what is told of sockets of this process, in the order they are given."""
    pid = pid or os.getpid()
    numbers = {end.fileno() for end in ends}
    targets = tuple(d for d in descriptors(pid) if d.number in numbers and d.kind is FdKind.SOCKET)
    thread = ThreadWait(pid, "t", "S", Act.READ, "recvfrom", targets, still=True)
    found = read_others([ProcessWaits(pid, "p", 0, (thread,), 1)], (), seconds=10.0)
    by_number = {d.number: found[d.inode] for d in targets if d.inode in found}
    return {n: by_number[end.fileno()] for n, end in enumerate(ends) if end.fileno() in by_number}


@pytest.mark.parametrize(
    ("family", "kind", "names"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, {"TCP"}),
        (socket.AF_INET, socket.SOCK_DGRAM, {"UDP"}),
        (socket.AF_INET6, socket.SOCK_DGRAM, {"UDPv6"}),
        (socket.AF_NETLINK, socket.SOCK_DGRAM, {"NETLINK"}),
        (socket.AF_UNIX, socket.SOCK_DGRAM, {"UNIX"}),
        (socket.AF_UNIX, socket.SOCK_STREAM, {"UNIX", "UNIX-STREAM"}),  # before and since 5.15
    ],
)
def test_each_kind_has_the_name_of_its_protocol(
    family: socket.AddressFamily, kind: socket.SocketKind, names: set[str]
) -> None:
    try:
        end = socket.socket(family, kind)
    except OSError as error:
        pytest.skip(f"no such socket here: {error}")
    with end:
        assert {other.protocol for other in asked(end).values()} <= names
        assert len(asked(end)) == 1


def test_both_ends_of_a_connection_know_the_path_of_the_server(tmp_path: Path) -> None:
    path = str(tmp_path / ".s.PGSQL.5432")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        served, _ = listener.accept()
        with served:
            found = asked(listener, client, served)
    assert [(o.path, o.peer_path, o.connected) for o in found.values()] == [
        (path, "", False),
        ("", path, True),
        (path, "", True),
    ]


def test_the_program_at_the_other_end_is_named_where_it_is_the_only_one() -> None:
    ours, theirs = socket.socketpair()

    def work() -> None:
        ours.close()
        theirs.recv(1)

    with contextlib.closing(ours), blocked(work) as pid:
        (shared,) = asked(ours).values()
        assert shared.program == ""  # this process holds that end too
        theirs.close()
        (told,) = asked(ours).values()
    assert told.program.endswith(f", pid {pid}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_a_stranger_is_told_nothing_of_it() -> None:
    with socket.socket(socket.AF_UNIX) as end:
        pid, number = os.getpid(), end.fileno()
        (target,) = (d for d in descriptors(pid) if d.number == number)
        thread = ThreadWait(pid, "t", "S", Act.READ, "recvfrom", (target,), still=True)
        process = ProcessWaits(pid, "p", 0, (thread,), 1)
        assert as_user(NOBODY, lambda: read_others([process], (), seconds=5.0)) == {}
