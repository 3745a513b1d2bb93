"""Which processes are searched first: those of the cgroup and the user, and those that leak."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.sources.live.processes.leaking import (
    NO_PROCESS,
    UNKNOWN_INODE,
    inode,
    leak,
    owner_pids,
    quiet,
    reads_of,
    sockets_of,
)
from twdiag.lab import kernel
from twdiag.sources.live.processes import likely, owners
from twdiag.sources.live.processes.owners import read_owners

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path


def test_processes_are_searched_in_the_order_of_their_numbers(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = search_order(listener, monkeypatch, ["10", "self", "9", "1", "irq", "100"])
    assert searched == [1, 9, 10, 100]


def test_processes_of_the_sockets_cgroup_and_user_are_searched_first(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {2: 33, 4: 33, 8: 33}
    monkeypatch.setattr(likely, "_uid_of", users.get)
    monkeypatch.setattr(likely, "cgroup_members", lambda groups: {8, 6, 999} if groups else set())
    names = [str(pid) for pid in range(1, 11)]
    rest = [1, 3, 5, 7, 9, 10]
    assert search_order(listener, monkeypatch, names, [5], [33]) == [6, 8, 2, 4, *rest]
    assert search_order(listener, monkeypatch, names, (), [33]) == [2, 4, 8, 1, 3, 5, 6, 7, 9, 10]


def test_a_cgroup_of_most_processes_narrows_nothing_down(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely, "cgroup_members", lambda _: {2, 3})
    monkeypatch.setattr(likely, "_uid_of", lambda _: None)
    assert search_order(listener, monkeypatch, ["1", "2", "3"], [5]) == [1, 2, 3]


def search_order(
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    cgroups: Collection[int] = (),
    uids: Collection[int] = (),
) -> list[int]:
    """Return the processes that are looked at for a socket, in order."""
    searched: list[int] = []

    def held(pid: int, _: object) -> tuple[set[int], int]:
        searched.append(pid)
        return set(), 0

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda _: names)
        patch.setattr(owners, "_held", held)
        read_owners([inode(listener)], cgroups, uids)
    return searched


@pytest.mark.parametrize("kernel_counts", [True, False], ids=["Linux 6.2", "before Linux 6.2"])
def test_the_process_that_leaks_is_found_by_a_glance_at_each(
    kernel_counts: bool,
    fork: Callable[..., int],
    listed: Callable[..., None],
    read: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [fork(quiet) for _ in range(3)]
    leaking = fork(lambda: leak(50))
    wanted = sockets_of(leaking)
    assert len(wanted) == 50
    if not kernel_counts:
        monkeypatch.setattr(likely, "_descriptors", lambda _: 0)
    listed(*others, leaking)
    read.clear()
    found, gaps = read_owners(wanted)
    assert (owner_pids(found), set(found), gaps) == ({(leaking,)}, wanted, [])
    assert max(reads_of(read, pid) for pid in others) <= 12


def test_after_the_process_that_leaks_no_other_is_looked_at(
    fork: Callable[..., int], listed: Callable[..., None], read: list[str]
) -> None:
    leaking, other = sorted(fork(lambda: leak(50)) for _ in range(2))
    wanted = sockets_of(leaking)
    listed(leaking, other)
    read.clear()
    assert owner_pids(read_owners(wanted)[0]) == {(leaking,)}
    assert reads_of(read, other) == 0


def test_no_glance_is_taken_for_a_few_sockets(
    fork: Callable[..., int], listed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely, "_is_hit", lambda *_: pytest.fail("it was"))
    leaking = fork(lambda: leak(3))
    listed(leaking)
    assert owner_pids(read_owners(sockets_of(leaking))[0]) == {(leaking,)}


def test_what_no_glance_finds_is_searched_for_everywhere(
    fork: Callable[..., int], listed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely, "_is_hit", lambda *_: False)
    pids = [fork(lambda: leak(15)) for _ in range(3)]
    listed(*pids)
    wanted = set().union(*map(sockets_of, pids))
    found, gaps = read_owners(wanted)
    assert (owner_pids(found), set(found), gaps) == ({(pid,) for pid in pids}, wanted, [])


@pytest.mark.parametrize("closed", ["8", "13"])
def test_a_glance_gets_over_a_descriptor_that_is_closed(
    closed: str, fork: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    leaking = fork(lambda: leak(50))
    links = {f"socket:[{inode}]" for inode in sockets_of(leaking)}
    real = os.readlink

    def readlink(path: str) -> str:
        number = path.rpartition("/")[2]
        if number == closed:
            raise FileNotFoundError(path)
        return real(path) if int(number) > 13 else "/dev/null"

    monkeypatch.setattr(os, "readlink", readlink)
    assert likely._is_hit(leaking, links)


def test_a_glance_ends_where_the_descriptors_do(fork: Callable[..., int], read: list[str]) -> None:
    pid = fork(quiet)
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    assert not likely._is_hit(pid, ())
    numbers = [int(path.rpartition("/")[2]) for path in read]
    assert sum(number > highest for number in numbers) <= 2
    assert len([number for number in numbers if number % 2]) >= len(numbers) // 2


def test_a_process_that_vanishes_after_the_glance_is_passed_over(
    fork: Callable[..., int], listed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    leaking = fork(lambda: leak(50))
    wanted = sockets_of(leaking)
    gone = next(pid for pid in range(leaking, 0, -1) if not os.path.exists(f"/proc/{pid}"))
    looked_at: list[int] = []

    def is_hit(pid: int, _: object) -> bool:
        looked_at.append(pid)
        return True

    monkeypatch.setattr(likely, "_is_hit", is_hit)
    monkeypatch.setattr(likely, "_descriptors", lambda _: 50)
    listed(gone, NO_PROCESS, leaking)
    found, gaps = read_owners(wanted)
    assert looked_at == [gone, leaking]
    assert (owner_pids(found), gaps) == ({(leaking,)}, [])


@pytest.mark.parametrize("error", [PermissionError, ProcessLookupError, FileNotFoundError])
def test_a_process_that_refuses_the_glance_is_searched_all_the_same(
    error: type[OSError],
    fork: Callable[..., int],
    listed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaking = fork(lambda: leak(50))
    wanted = sockets_of(leaking)
    real = os.readlink

    def readlink(path: str, *, dir_fd: int | None = None) -> str:
        if dir_fd is None:
            raise error(path)
        return real(path, dir_fd=dir_fd)

    listed(leaking)
    monkeypatch.setattr(os, "readlink", readlink)
    found, gaps = read_owners(wanted)
    assert (owner_pids(found), gaps) == ({(leaking,)}, [])


def test_a_process_that_may_not_be_read_is_counted_once_despite_the_glance(
    fork: Callable[..., int], listed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = fork(lambda: leak(50))
    wanted = sockets_of(hidden)

    def deny(path: str, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", path)

    listed(hidden)
    for call in ("open", "readlink"):
        monkeypatch.setattr(os, call, deny)
    found, (gap,) = read_owners(wanted)
    assert found == {}
    assert "the owners of 50 sockets are not visible: no permission to read 1 process" in gap.why


@pytest.mark.parametrize("kernel_counts", [True, False], ids=["Linux 6.2", "before Linux 6.2"])
def test_the_parent_of_a_worker_that_leaks_keeps_its_listener(
    kernel_counts: bool,
    listener: socket.socket,
    fork: Callable[..., int],
    listed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = fork(lambda: leak(50))
    wanted = sockets_of(worker)
    # This process, too, has as many descriptors as there are sockets sought.
    counts = {os.getpid(): 60, worker: 100} if kernel_counts else {}
    monkeypatch.setattr(likely, "_descriptors", lambda pid: counts.get(pid, 0))
    glance = likely._is_hit
    monkeypatch.setattr(likely, "_is_hit", lambda pid, links: pid == worker and glance(pid, links))
    listed(os.getpid(), worker)
    found, gaps = read_owners({*wanted, inode(listener), UNKNOWN_INODE})
    assert [gap.what for gap in gaps] == ["owners"]
    # Each once, although the search went on for what nobody holds.
    assert [owner.pid for owner in found.pop(inode(listener))] == [os.getpid(), worker]
    assert owner_pids(found) == {(worker,)}


def test_of_processes_that_inherited_a_leak_the_first_is_named(
    fork: Callable[..., int], listed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely, "_relatives", lambda _: iter(()))
    held = [socket.socket() for _ in range(50)]
    wanted = [inode(each) for each in held]
    reading, writing = os.pipe()

    def grandchild() -> None:
        pid = os.fork()
        if pid == 0:
            kernel.die_with_parent(os.getppid(), signal.SIGKILL)
            os.write(writing, str(os.getpid()).encode())
            signal.pause()

    child = fork(grandchild)
    last = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    listed(last, child, os.getpid())
    found, _ = read_owners(wanted)
    for each in held:
        each.close()
    assert owner_pids(found) == {(min(os.getpid(), child, last),)}


def test_the_parent_of_a_process_is_found_behind_any_name(fork: Callable[..., int]) -> None:
    pid = fork(lambda: kernel.set_name("a) R 1 1 (b"))
    assert list(likely._relatives(pid))[-1] == os.getpid()
    assert list(likely._relatives(NO_PROCESS)) == []


def test_a_worker_that_forked_twice_still_belongs_to_its_master(
    fork: Callable[..., int], tmp_path: Path
) -> None:
    """Its parent is init, but a daemon is the leader of its session."""
    told = tmp_path / "worker"

    def master() -> None:
        os.setsid()
        reading, writing = os.pipe()
        if first := os.fork():
            os.close(reading)
            os.waitpid(first, 0)
            return
        if os.fork() == 0:
            os.close(writing)
            told.with_suffix(".new").write_text(str(os.getpid()))
            told.with_suffix(".new").rename(told)
            os.read(reading, 1)  # until the master is gone
        os._exit(0)

    pid = fork(master)
    end = time.monotonic() + 10
    while not told.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert next(likely._relatives(int(told.read_text()))) == pid


def test_cgroups_are_found_by_the_number_of_their_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "c"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "cgroup.procs").write_text(f"{number}1\n{number}2\nx\n")
    inodes = [folder.stat().st_ino for folder in folders]
    assert likely.cgroup_members([inodes[1]], str(tmp_path)) == {11, 12}
    assert likely.cgroup_members([inodes[0], inodes[2]], str(tmp_path)) == {1, 2, 21, 22}
    assert likely.cgroup_members([], str(tmp_path)) == set()
    assert likely.cgroup_members([inodes[0]], str(tmp_path / "absent")) == set()
