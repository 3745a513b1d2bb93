"""Which process holds a socket: its own, a vanished one's, a hidden one's, and one of many."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twdiag.lab import kernel
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.processes import likely, owners
from twdiag.sources.live.processes.owners import describe, read_owners
from twdiag.wording import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from twdiag.model.snapshot import Owner

UNKNOWN_INODE = 0xFFFFFFF0
NO_PROCESS = 1 << 22  # one above the largest number that Linux gives


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


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the search find these processes and no other."""
    return lambda *pids: monkeypatch.setattr(owners, "likely_first", lambda *_: iter(pids))


def test_a_search_that_takes_too_long_ends_and_says_so(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(owners.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(likely, "_groups", lambda *_: [list(range(1, 500)), [os.getpid()]])
    searched: list[int] = []
    monkeypatch.setattr(owners, "_held", lambda pid, _: searched.append(pid) or (set(), 0))
    for sought in ([inode(listener)], range(UNKNOWN_INODE, UNKNOWN_INODE + 50)):
        searched.clear()
        found, (gap,) = read_owners(sought, seconds=4)
        assert found == {}
        assert len(searched) < 5
        assert gap.why.endswith("not found within 4.0 s")
        assert gap.partial


def test_an_own_socket_is_found(listener: socket.socket) -> None:
    found, gaps = read_owners([inode(listener)])
    assert gaps == []
    (owner,) = found[inode(listener)]
    assert owner.pid == os.getpid()
    assert owner.user == pwd.getpwuid(os.getuid()).pw_name
    assert Path("/proc/self/comm").read_text().strip() in owner.name


def test_descriptors_and_their_limit_are_counted(
    listener: socket.socket, fork: Callable[..., int], only: Callable[..., None]
) -> None:
    def limit() -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (77, hard))
        for _ in range(5):
            os.open(os.devnull, os.O_RDONLY)

    small, large = fork(lambda: None), fork(limit)
    only(small, large)
    (one,) = read_owners([inode(listener)])[0][inode(listener)]
    only(large)
    (other,) = read_owners([inode(listener)])[0][inode(listener)]
    assert one.fds == len(os.listdir(f"/proc/{small}/fd"))
    assert other.fds == len(os.listdir(f"/proc/{large}/fd"))
    assert other.fds >= one.fds + 5
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert one.fd_limit == (None if soft == resource.RLIM_INFINITY else soft)
    assert other.fd_limit == 77


def test_without_an_inode_there_is_nothing_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_held", lambda *_: pytest.fail("a process was looked at"))
    assert read_owners([0, 0]) == ({}, [])


def test_a_socket_that_nobody_holds_is_a_gap(
    listener: socket.socket, only: Callable[..., None]
) -> None:
    only(os.getpid())
    found, (gap,) = read_owners([inode(listener), UNKNOWN_INODE])
    assert list(found) == [inode(listener)]
    assert (gap.what, gap.partial) == ("owners", True)
    assert "no process visible from here holds 1 socket" in gap.why
    assert gap.how


def test_processes_that_vanish_meanwhile_are_passed_over(
    listener: socket.socket, only: Callable[..., None], fork: Callable[..., int]
) -> None:
    gone = fork(lambda: None)
    os.kill(gone, signal.SIGKILL)
    os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)
    only(gone, NO_PROCESS, os.getpid())  # a zombie, a number of nobody, and the one it is
    found, gaps = read_owners([inode(listener)])
    assert [owner.pid for owner in found[inode(listener)]] == [os.getpid()]
    assert gaps == []
    assert describe(NO_PROCESS) is None


def test_a_process_that_vanishes_before_its_name_is_read_is_no_owner(
    listener: socket.socket, only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(os.getpid())
    monkeypatch.setattr(owners, "describe", lambda *_: None)
    found, gaps = read_owners([inode(listener)])
    assert found == {}
    assert len(gaps) == 1


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_descriptors_that_close_meanwhile_are_passed_over(
    listener: socket.socket,
    only: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    error: type[OSError],
) -> None:
    real, own = os.readlink, str(listener.fileno())

    def readlink(path: str, *, dir_fd: int | None = None) -> str:
        if path.rpartition("/")[2] != own:
            raise error(path)
        return real(path, dir_fd=dir_fd)

    only(os.getpid())
    monkeypatch.setattr(os, "readlink", readlink)
    found, _ = read_owners([inode(listener)])
    # ENOENT is one descriptor's end, ESRCH that of the whole process.
    assert (inode(listener) in found) == (error is FileNotFoundError)


@pytest.mark.parametrize("call", ["open", "readlink"])
def test_processes_that_may_not_be_read_are_counted(
    listener: socket.socket,
    only: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    fork: Callable[..., int],
    call: str,
) -> None:
    hidden = fork(lambda: None)
    real = getattr(os, call)

    def deny(path: str, *arguments: object, dir_fd: int | None = None) -> object:
        folder = path if dir_fd is None else os.path.realpath(f"/proc/self/fd/{dir_fd}")
        if folder.startswith(f"/proc/{hidden}/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, dir_fd=dir_fd)

    only(hidden, os.getpid())
    monkeypatch.setattr(os, call, deny)
    found, (gap,) = read_owners([inode(listener), UNKNOWN_INODE])
    monkeypatch.undo()
    assert [owner.pid for owner in found[inode(listener)]] == [os.getpid()]
    assert (gap.what, gap.partial) == ("owners", True)
    assert "the owners of 1 socket are not visible: no permission to read 1 process" in gap.why
    assert "CAP_SYS_PTRACE" in gap.how


def test_without_proc_there_are_no_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", absent)
    found, gaps = read_owners([UNKNOWN_INODE])
    assert found == {}
    assert [gap.what for gap in gaps] == ["owners"]


def test_a_plain_user_is_told_to_be_root(
    only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only()
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
    listener: socket.socket, fork: Callable[..., int], only: Callable[..., None]
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
    only(os.getpid(), child)
    found, gaps = read_owners([inode(listener), its_own])
    assert gaps == []
    assert [owner.pid for owner in found[its_own]] == [child]
    assert [owner.pid for owner in found[inode(listener)]] == [os.getpid(), child]


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


LEAKED: list[socket.socket] = []


def leak(count: int) -> None:
    """Hold so many sockets until this process ends."""
    LEAKED.extend(socket.socket() for _ in range(count))


def quiet() -> None:
    """Hold many descriptors that are no sockets."""
    for _ in range(150):
        os.dup(0)


def sockets_of(pid: int) -> set[int]:
    """Return the inodes of the sockets that a process holds and this one does not."""
    return _sockets(pid) - _sockets(os.getpid())


def _sockets(pid: int) -> set[int]:
    links = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the scan itself
            links.add(os.readlink(entry.path))
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let /proc list these processes and no other."""
    real = os.listdir

    def let(*pids: int) -> None:
        names = [str(pid) for pid in pids]
        monkeypatch.setattr(os, "listdir", lambda path: names if path == "/proc" else real(path))

    return let


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each descriptor that is read, as its path."""
    paths: list[str] = []
    real = os.readlink

    def readlink(path: str, *, dir_fd: int | None = None) -> str:
        folder = "" if dir_fd is None else real(f"/proc/self/fd/{dir_fd}") + "/"
        paths.append(folder + path)
        return real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", readlink)
    return paths


def reads_of(read: list[str], pid: int) -> int:
    return sum(path.startswith(f"/proc/{pid}/") for path in read)


def owner_pids(found: Mapping[int, Sequence[Owner]]) -> set[tuple[int, ...]]:
    """Return who is named, once for all sockets of the same owners."""
    return {tuple(owner.pid for owner in named) for named in found.values()}


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


def test_the_search_of_a_process_ends_with_the_last_socket(
    fork: Callable[..., int], only: Callable[..., None], read: list[str]
) -> None:
    def work() -> None:
        leak(1)
        quiet()

    holding = fork(work)
    wanted = sockets_of(holding)
    only(holding)
    read.clear()
    ((owner,),) = read_owners(wanted)[0].values()
    assert owner.fds == len(os.listdir(f"/proc/{holding}/fd"))
    assert reads_of(read, holding) < owner.fds - 140


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


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for passwd in ("broken\nother:x:12:1:::\n", None):
        monkeypatch.setattr(owners, "read_text", {"/etc/passwd": passwd}.get)
        owner = describe(os.getpid())
        assert owner is not None
        assert owner.user == f"uid {os.getuid()}"


def test_the_names_of_users_are_read_once_for_each_user(
    fork: Callable[..., int], only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = [fork(lambda: leak(1)) for _ in range(3)]
    read_files: list[str] = []

    def noted(path: str) -> str | None:
        read_files.append(path)
        return read_text(path)

    only(*pids)
    monkeypatch.setattr(owners, "read_text", noted)
    found, _ = read_owners(set().union(*map(sockets_of, pids)))
    assert owner_pids(found) == {(pid,) for pid in pids}
    assert read_files.count("/etc/passwd") == 1


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
