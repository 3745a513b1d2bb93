"""A socket of another namespace is not one that no table shows, whoever holds its descriptor."""

from __future__ import annotations

import codecs
import os
import signal
import socket
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.engine.privately import in_private
from tests.sources.live.confinement import become_nobody
from twdiag.lab import kernel
from twdiag.lab.network import enter_private
from twdiag.sources.live.namespaces.other_tables import look_elsewhere
from twdiag.sources.live.processes.breakdown import break_down

if TYPE_CHECKING:
    from twdiag.model.snapshot import Breakdown

CONNECTIONS, RESET = 10, 3
SOCKETS = 2 * CONNECTIONS + 1
ABORT = struct.pack("ii", 1, 0)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to come back takes root")


class Found(NamedTuple):
    """What the descriptors of a process are, and what was not seen."""

    seen: Breakdown
    unseen: list[str]


def connected() -> list[socket.socket]:
    """Return the ends of live connections of this namespace and their listener."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    held = [listener]
    for _ in range(CONNECTIONS):
        held.append(socket.create_connection(listener.getsockname()))
        held.append(listener.accept()[0])
    return held


def reset() -> list[socket.socket]:
    """Return the ends of connections that their peers have reset, which are in no table."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []
        for _ in range(RESET):
            client = socket.create_connection(listener.getsockname())
            held.append(listener.accept()[0])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            client.close()
        return held


def broken_down() -> Found:
    found, gaps = break_down([os.getpid()], {})
    return Found(found[os.getpid()], [gap.why for gap in gaps])


def opened_elsewhere() -> tuple[list[socket.socket], int]:
    """Return sockets of another namespace, and a descriptor of that one."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter_private()
    sockets, there = connected(), os.open("/proc/self/ns/net", os.O_RDONLY)
    kernel.setns(home)
    os.close(home)
    return sockets, there


def without_rights() -> None:
    """Become a user that may do nothing but look at itself."""
    codecs.lookup("ascii")  # nobody may not be able to read Python's modules
    become_nobody()
    kernel.own_proc_files()


def leave_a_process_in(namespace: int) -> None:
    """Close the descriptor of a namespace and leave a process there, which ends with this one."""
    parent, (ready, tell) = os.getpid(), os.pipe()
    if os.fork() == 0:
        kernel.setns(namespace)
        become_nobody()  # this process may do the same, and must be allowed to end it
        kernel.die_with_parent(parent, signal.SIGKILL)
        os.write(tell, b".")
        signal.pause()
    os.read(ready, 1)
    os.close(namespace)


def test_the_sockets_of_a_namespace_with_a_process_are_elsewhere() -> None:
    def work() -> Found:
        sockets, there = opened_elsewhere()
        leave_a_process_in(there)
        lost = reset()
        found = broken_down()
        del sockets, lost
        return found

    seen, unseen = in_private(work)
    assert (seen.elsewhere, seen.nowhere, seen.uncertain) == (SOCKETS, RESET, 0)
    assert unseen == []


def test_so_are_those_of_a_namespace_that_only_the_holder_keeps_open() -> None:
    def work() -> Found:
        sockets, _ = opened_elsewhere()
        found = broken_down()
        del sockets
        return found

    seen, _ = in_private(work)
    assert (seen.elsewhere, seen.nowhere) == (SOCKETS, 0)


def test_so_are_those_that_a_thread_has_opened_in_its_own_namespace() -> None:
    def work() -> Found:
        opened, done = threading.Event(), threading.Event()
        held = []

        def elsewhere() -> None:
            enter_private()
            held.extend(connected())
            opened.set()
            done.wait()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        opened.wait()
        found = broken_down()
        done.set()
        thread.join()
        return found

    seen, _ = in_private(work)
    assert (seen.elsewhere, seen.nowhere) == (SOCKETS, 0)


def test_a_namespace_that_may_not_be_entered_is_read_from_outside() -> None:
    def work() -> Found:
        sockets, there = opened_elsewhere()
        leave_a_process_in(there)
        lost = reset()
        without_rights()
        found = broken_down()
        del sockets, lost
        return found

    seen, _ = in_private(work)
    assert (seen.elsewhere, seen.nowhere, seen.uncertain) == (SOCKETS, RESET, 0)


def test_what_may_be_in_a_namespace_that_was_not_read_is_unknown_and_not_leaked() -> None:
    def work() -> Found:
        sockets, _ = opened_elsewhere()
        without_rights()
        found = broken_down()  # a descriptor alone shows nobody what is in there
        del sockets
        return found

    seen, (unseen,) = in_private(work)
    assert (seen.elsewhere, seen.nowhere, seen.uncertain) == (0, 0, SOCKETS)
    assert unseen.startswith(f"{SOCKETS} sockets are in no table here")


def test_without_time_it_is_said_that_there_may_be_more() -> None:
    def work() -> tuple[bool, bool]:
        sockets, there = opened_elsewhere()
        leave_a_process_in(there)
        inodes = {os.fstat(end.fileno()).st_ino for end in sockets}
        late = look_elsewhere(inodes, [], 0.0)
        in_time = look_elsewhere(inodes, [], 10.0)
        return late.late and not late.complete, in_time.inodes == inodes

    assert in_private(work) == (True, True)
