"""What descriptors stand for, how many there are, and who shares them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.processes.blocked import NOBODY, as_user, blocked
from twdiag.model.waits import FdKind
from twdiag.sources.live.processes import descriptors as d
from twdiag.sources.live.processes import headroom

ABORT = struct.pack("ii", 1, 0)
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
counted = pytest.mark.skipif(
    not headroom.counts_descriptors(),
    reason="before Linux 6.2 the kernel shows no count of descriptors",
)


@pytest.mark.parametrize(
    ("link", "kind", "inode"),
    [
        ("socket:[123]", FdKind.SOCKET, 123),
        ("pipe:[7]", FdKind.PIPE, 7),
        ("anon_inode:[eventpoll]", FdKind.EPOLL, None),
        ("anon_inode:[io_uring]", FdKind.RING, None),
        ("/dev/null", FdKind.DEVICE, None),
        ("/tmp/socket:[123]", FdKind.FILE, None),
        ("net:[4026531840]", FdKind.OTHER, None),
    ],
)
def test_links(link: str, kind: FdKind, inode: int | None) -> None:
    assert d.parse_link(3, link) == (3, kind, inode, link)


@given(st.text())
def test_any_link(link: str) -> None:
    assert d.parse_link(3, link).name == link


@given(st.binary(max_size=300))
def test_any_limits(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        headroom.parse_limit(data)


def test_limits() -> None:
    line = b"Max open files            1024                 524288               files     \n"
    assert headroom.parse_limit(line) == 1024
    assert headroom.parse_limit(line.replace(b"1024     ", b"unlimited")) is None


@given(st.lists(st.text(), max_size=60), st.integers(1, 40))
def test_a_sample_is_spread_over_all(names: list[str], most: int) -> None:
    chosen = d.spread(names, most)
    assert len(chosen) == min(len(names), most)
    if names:
        assert chosen[0] == names[0]


def test_what_this_process_has_open() -> None:
    with select.epoll() as poll, socket.socket() as end:
        found = {one.number: one for one in d.descriptors(os.getpid())}
        assert found[poll.fileno()].kind is FdKind.EPOLL
        assert found[end.fileno()].inode == os.fstat(end.fileno()).st_ino


@counted
@root
def test_headroom_needs_no_right() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        here = headroom.descriptor_headroom([pid, os.getpid()])
        there = as_user(NOBODY, partial(headroom.descriptor_headroom, [pid]))
        number = len(os.listdir(f"/proc/{pid}/fd"))
    assert there[pid] == here[pid]
    assert here[pid].open == number
    assert headroom.descriptor_headroom([pid]) == {}


@counted
def test_headroom_leaves_out_processes_with_few_descriptors() -> None:
    assert headroom.descriptor_headroom([os.getpid()], least=1_000_000) == {}


def test_who_shares_a_socket_and_who_started_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        number, inode = listener.fileno(), os.fstat(listener.fileno()).st_ino
        helper = subprocess.Popen(["sleep", "600"], pass_fds=[number])
        try:
            holders, complete = d.read_holders({inode}, d.relatives(os.getpid()), seconds=10.0)
        finally:
            os.kill(helper.pid, signal.SIGKILL)
            helper.wait()
    assert complete
    by_pid = {one.pid: one for one in holders[inode]}
    assert by_pid.keys() == {os.getpid(), helper.pid}
    child = by_pid[helper.pid]
    assert (child.parent, child.fd, child.cloexec) == (os.getpid(), number, False)
    assert child.executable.endswith("sleep")


@given(st.dictionaries(st.integers(2, 40), st.integers(0, 40), max_size=30), st.integers(2, 40))
def test_any_family(parents: dict[int, int], pid: int) -> None:
    family = d.related(pid, parents)
    assert family[0] == pid
    assert len(set(family)) == len(family)


def test_a_family() -> None:
    parents = {10: 1, 11: 10, 12: 10, 13: 12, 20: 1}
    assert set(d.related(12, parents)) == {10, 11, 12, 13}
