"""Which process holds a socket: its own, a vanished one's, a hidden one's, and one of many."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from twdiag.sources.live import rights
from twdiag.sources.live.proc import read_text
from twdiag.sources.live.processes import likely, owners
from twdiag.sources.live.processes.owners import describe, read_owners, script_of
from twdiag.wording import visible

if TYPE_CHECKING:
    from collections.abc import Callable


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
    monkeypatch.setattr(rights, "to_get", lambda *wanted: ", ".join(wanted))
    found, (gap,) = read_owners([inode(listener), UNKNOWN_INODE])
    monkeypatch.undo()
    assert [owner.pid for owner in found[inode(listener)]] == [os.getpid()]
    assert (gap.what, gap.partial) == ("owners", True)
    assert "the owners of 1 socket are not visible: no permission to read 1 process" in gap.why
    assert gap.how == "CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"


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


@pytest.mark.parametrize(
    ("command_line", "script"),
    [
        (["python3", "/srv/app.py", "--port", "8080"], "app.py"),
        (["/usr/bin/python3", "-u", "-m", "shop.worker"], "shop.worker"),
        (["node", "--inspect", "server.js"], "server.js"),
        (["java", "-Xmx1g", "-jar", "/opt/a/shop.jar"], "shop.jar"),
        (["python3", "-c", "from multiprocessing.spawn import spawn_main", "--fork"], ""),
        (["bash"], ""),
        ([], ""),
    ],
)
def test_what_an_interpreter_runs(command_line: list[str], script: str) -> None:
    assert script_of(command_line) == script


@given(st.lists(st.text(max_size=200)))
def test_any_command_line_gives_a_short_word(command_line: list[str]) -> None:
    script = script_of(command_line)
    assert len(script) <= 64
    assert "/" not in script


def test_a_process_of_an_interpreter_has_its_script(tmp_path: Path) -> None:
    script = tmp_path / "orders.py"
    script.write_text("input()\n")
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE) as process:
        owner = describe(process.pid)
        process.communicate(b"\n")
    assert owner is not None
    assert (owner.name[:6], owner.script) == ("python", "orders.py")
