"""Which process holds a socket: its own, a vanished one's, a hidden one's, and one of many."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twdiag.lab import kernel
from twdiag.sources import owners
from twdiag.sources.owners import describe, read_owners
from twdiag.wording import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNKNOWN_INODE = 0xFFFFFFF0


def inode(held: socket.socket) -> int:
    return os.fstat(held.fileno()).st_ino


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Start children that do something and then wait; they end with the test."""
    pids = []

    def start(work: Callable[[], object]) -> int:
        parent = os.getpid()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                kernel.die_with_parent(parent, signal.SIGKILL)
                work()
                os.write(writing, b"!")
                signal.pause()
            finally:
                os._exit(1)
        pids.append(pid)
        os.close(writing)
        ready = os.read(reading, 1)
        os.close(reading)
        assert ready == b"!"
        return pid

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_an_own_socket_is_found_with_descriptors_and_limit(listener: socket.socket) -> None:
    found, gaps = read_owners([inode(listener)])
    assert gaps == []
    (owner,) = found[inode(listener)]
    assert owner.pid == os.getpid()
    assert owner.user == pwd.getpwuid(os.getuid()).pw_name
    assert owner.fds == len(os.listdir("/proc/self/fd"))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert owner.fd_limit == (None if soft == resource.RLIM_INFINITY else soft)
    assert Path("/proc/self/comm").read_text().strip() in owner.name


def test_every_descriptor_counts(listener: socket.socket) -> None:
    def fds() -> int:
        count = read_owners([inode(listener)])[0][inode(listener)][0].fds
        assert count is not None
        return count

    before = fds()
    with open(os.devnull), open(os.devnull):
        assert fds() == before + 2


def test_without_an_inode_there_is_nothing_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_held", lambda *_: pytest.fail("a process was looked at"))
    assert read_owners([0, 0]) == ({}, [])


def test_a_socket_that_nobody_holds_is_a_gap(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_pids", lambda: iter([os.getpid()]))
    found, (gap,) = read_owners([inode(listener), UNKNOWN_INODE])
    assert list(found) == [inode(listener)]
    assert (gap.what, gap.partial) == ("owners", True)
    assert "no process visible from here holds 1 socket" in gap.why
    assert gap.how


def test_processes_that_vanish_meanwhile_are_passed_over(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, fork: Callable[..., int]
) -> None:
    gone = fork(lambda: None)
    os.kill(gone, signal.SIGKILL)
    os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)  # a zombie, and then a number of nobody
    monkeypatch.setattr(owners, "_pids", lambda: iter([gone, 1 << 22, os.getpid()]))
    found, gaps = read_owners([inode(listener)])
    assert found[inode(listener)][0].pid == os.getpid()
    assert gaps == []
    assert describe(1 << 22) is None


def test_a_process_that_vanishes_before_its_name_is_read_is_no_owner(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_pids", lambda: iter([os.getpid()]))
    monkeypatch.setattr(owners, "describe", lambda _pid, _fds: None)
    found, gaps = read_owners([inode(listener)])
    assert found == {}
    assert len(gaps) == 1


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_descriptors_that_close_meanwhile_are_passed_over(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    real = os.readlink
    own = f"/proc/{os.getpid()}/fd/{listener.fileno()}"

    def readlink(path: str) -> str:
        if path != own:
            raise error(path)
        return real(path)

    monkeypatch.setattr(owners, "_pids", lambda: iter([os.getpid()]))
    monkeypatch.setattr(os, "readlink", readlink)
    found, _ = read_owners([inode(listener)])
    # ENOENT is one descriptor's end, ESRCH that of the whole process.
    assert (inode(listener) in found) == (error is FileNotFoundError)


@pytest.mark.parametrize("call", ["listdir", "readlink"])
def test_processes_that_may_not_be_read_are_counted(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def deny(path: str) -> object:
        if path.startswith("/proc/1/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(owners, "_pids", lambda: iter([1, os.getpid()]))
    monkeypatch.setattr(os, call, deny)
    found, (gap,) = read_owners([inode(listener), UNKNOWN_INODE])
    assert list(found) == [inode(listener)]
    assert (gap.what, gap.partial) == ("owners", True)
    assert "the owners of 1 socket are not visible: 1 process may not be read" in gap.why
    assert "CAP_SYS_PTRACE" in gap.how


def test_without_proc_there_are_no_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", absent)
    found, gaps = read_owners([UNKNOWN_INODE])
    assert found == {}
    assert [gap.what for gap in gaps] == ["owners"]


def test_a_plain_user_is_told_to_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_pids", lambda: iter([]))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "as root" in read_owners([UNKNOWN_INODE])[1][0].how
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "as root" not in read_owners([UNKNOWN_INODE])[1][0].how


def test_of_processes_that_share_a_listener_the_first_is_named(
    listener: socket.socket, fork: Callable[..., int]
) -> None:
    children = [fork(lambda: None) for _ in range(2)]
    found, gaps = read_owners([inode(listener)])
    assert gaps == []
    assert [owner.pid for owner in found[inode(listener)]] == [min(os.getpid(), *children)]


def test_the_search_goes_on_for_sockets_that_only_a_child_holds(
    listener: socket.socket, fork: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()

    kept: list[socket.socket] = []

    def work() -> None:
        kept.append(socket.create_server(("127.0.0.1", 0)))
        os.write(writing, str(inode(kept[0])).encode())

    child = fork(work)
    its_own = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    monkeypatch.setattr(owners, "_pids", lambda: iter([os.getpid(), child]))
    found, gaps = read_owners([inode(listener), its_own])
    assert gaps == []
    assert [owner.pid for owner in found[its_own]] == [child]
    assert [owner.pid for owner in found[inode(listener)]] == [os.getpid(), child]


def test_processes_are_searched_in_the_order_of_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert os.getpid() in list(owners._pids())
    monkeypatch.setattr(os, "listdir", lambda _: ["10", "self", "9", "1", "irq", "100"])
    assert list(owners._pids()) == [1, 9, 10, 100]


@pytest.mark.parametrize(
    "name",
    ["\x1b[31m[red]|\nx", "a) R 1 1 1 1", "(sd-pam)", "\udcff\udc80\x7f", " ", "%s{0}\\x1b"],
)
def test_hostile_names_are_kept_and_can_be_made_harmless(
    name: str, listener: socket.socket, fork: Callable[..., int]
) -> None:
    child = fork(lambda: kernel.set_name(name))
    owner = describe(child)
    assert owner is not None
    assert owner.name == name
    assert owner.fds is None
    assert visible(owner.name).isprintable()


def test_a_limit_that_is_none_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = "Limit                     Soft Limit           Hard Limit           Units     \n"
    for text, limit in (
        (
            limits + "Max open files            1024                 4096                 files \n",
            1024,
        ),
        (
            limits + "Max open files            unlimited            unlimited            files \n",
            None,
        ),
        (limits, None),
        (None, None),
    ):
        monkeypatch.setattr(owners, "read_text", lambda _path, text=text: text)
        owner = describe(os.getpid(), 7)
        assert owner is not None
        assert (owner.fds, owner.fd_limit) == (7, limit)
