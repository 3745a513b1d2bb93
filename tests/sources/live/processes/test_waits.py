"""What real processes wait for, as root, as their own user and as somebody else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.processes.blocked import NOBODY, as_user, blocked, states, wait_until
from twdiag.analysis.waits.case import watched_sockets
from twdiag.lab import kernel
from twdiag.model.waits import Act, FdKind
from twdiag.sources.live import rights
from twdiag.sources.live.processes import waits as reader
from twdiag.sources.live.processes.glances import Glance, glance_at, is_still
from twdiag.sources.live.processes.system_calls import SystemCall
from twdiag.sources.live.processes.threads import ThreadStatus
from twdiag.sources.live.processes.waits import read_waits, wanted_inodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twdiag.model.snapshot import Gap
    from twdiag.model.waits import ProcessWaits, ThreadWait

CLONE_NEWPID = 0x20000000  # include/uapi/linux/sched.h
PTRACE_ATTACH = 16  # include/uapi/linux/ptrace.h

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")


class Ends:
    """A connection and its listener, made before the process that waits on them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(self.listener.getsockname())
        self.server, _ = self.listener.accept()

    def inode(self, end: socket.socket) -> int:
        return os.fstat(end.fileno()).st_ino


@pytest.fixture
def ends() -> Ends:
    return Ends()


def start(*works: Callable[[], object]) -> None:
    """Start threads that wait, and let the main thread wait for a signal."""
    for work in works:
        threading.Thread(target=work, daemon=True).start()
    signal.sigwait({signal.SIGUSR2})


def others(waits: ProcessWaits) -> list[ThreadWait]:
    """Return the threads but the main one, in the order of their start."""
    return [thread for thread in waits.threads if thread.tid != waits.pid]


def look(pid: int, inodes: tuple[int, ...] = ()) -> tuple[dict[int, ProcessWaits], list[Gap]]:
    return read_waits([pid], inodes, seconds=5.0)


def receive_with_timeout(end: socket.socket) -> None:
    end.settimeout(600)
    end.recv(1)


def test_each_way_to_wait(ends: Ends) -> None:
    lock = threading.Lock()
    lock.acquire()
    works = (
        partial(ends.server.recv, 1),
        partial(receive_with_timeout, ends.client),
        partial(select.select, [ends.listener], [], [], 600),
        lock.acquire,
        partial(time.sleep, 600),
        partial(os.read, os.pipe()[0], 1),
    )
    with blocked(partial(start, *works), threads=7) as pid:
        found, gaps = look(pid)
    assert not gaps
    read, timed, selected, locked, asleep, piped = others(found[pid])
    assert [t.still for t in found[pid].threads] == [True] * 7
    assert (read.act, read.call, read.targets[0].inode) == (
        Act.READ,
        "recvfrom",
        ends.inode(ends.server),
    )
    assert (timed.act, timed.targets[0].inode) == (Act.POLL, ends.inode(ends.client))
    assert [t.inode for t in selected.targets] == [ends.inode(ends.listener)]
    assert (locked.act, locked.call, bool(locked.futex)) == (Act.FUTEX, "futex", True)
    assert asleep.act is Act.SLEEP
    assert (piped.act, piped.targets[0].kind) == (Act.READ, FdKind.PIPE)
    assert wanted_inodes(found) == {
        ends.inode(end) for end in (ends.server, ends.client, ends.listener)
    }


def test_an_epoll_set_and_who_waits_in_it(ends: Ends) -> None:
    def loop() -> None:
        poll, unused = select.epoll(), select.epoll()
        poll.register(ends.listener, select.EPOLLIN)
        unused.register(ends.server, select.EPOLLOUT)
        poll.poll()

    inodes = (ends.inode(ends.listener), ends.inode(ends.server), ends.inode(ends.client))
    with blocked(loop) as pid:
        found, _ = look(pid, inodes)
    (thread,) = found[pid].threads
    assert (thread.act, thread.targets[0].kind) == (Act.POLL, FdKind.EPOLL)
    epolls = found[pid].epolls
    assert epolls is not None
    watches = {watch.inode: watch for epoll in epolls for watch in epoll.watches}
    assert watches[inodes[0]].armed
    assert not watches[inodes[1]].armed
    assert inodes[2] not in watches
    assert [e.fd == thread.targets[0].number for e in epolls] == [True, False]


def test_an_epoll_set_that_watches_another(ends: Ends) -> None:
    def loop() -> None:
        with select.epoll() as inner, select.epoll() as outer:
            inner.register(ends.listener, select.EPOLLIN)
            outer.register(inner, select.EPOLLIN)
            outer.poll()

    inode = ends.inode(ends.listener)
    with blocked(loop) as pid:
        found, _ = look(pid, (inode,))
    assert watched_sockets(found.values(), {inode}) == ({inode}, frozenset())


@pytest.mark.parametrize("how", ["read", "poll", "epoll"])
def test_who_waits_for_the_output_of_a_child_waits_for_the_child(how: str) -> None:
    def wait() -> None:
        child = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        if how == "read":
            child.stdout.read()
        elif how == "poll":
            child.communicate()
        else:
            with select.epoll() as poll:
                poll.register(child.stdout, select.EPOLLIN)
                poll.poll()

    with blocked(wait) as pid:
        found, _ = look(pid)
        (thread,) = found[pid].threads
        assert thread.child is not None
        name = Path(f"/proc/{thread.child}/comm").read_text()
        os.kill(thread.child, signal.SIGKILL)
    assert (thread.act, name) == (Act.CHILD, "sleep\n")


@pytest.mark.parametrize(
    ("serves_on", "stream", "waits"),
    [
        (False, True, True),  # execSync() of Node.js
        (True, True, False),  # spawn(): the loop that serves watches the child too
        (False, False, False),  # a channel to a worker
    ],
)
def test_a_loop_for_a_child_alone_waits_for_the_child(
    serves_on: bool, stream: bool, waits: bool
) -> None:
    def wait() -> None:
        ours, theirs = socket.socketpair()
        sleep = ["sleep", "600"]
        if stream:
            child = subprocess.Popen(sleep, stdout=theirs)
        else:
            child = subprocess.Popen(sleep, pass_fds=[theirs.fileno()])
        theirs.close()
        kernel.die_with_parent(os.getppid(), signal.SIGKILL)
        listener = socket.create_server(("127.0.0.1", 0))
        serving, loop = select.epoll(), select.epoll()
        (loop if serves_on else serving).register(listener, select.EPOLLIN)
        loop.register(ours, select.EPOLLIN)
        loop.poll()
        child.wait()

    with blocked(wait) as pid:
        found, _ = look(pid)
        (sleeper,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        os.kill(sleeper, signal.SIGKILL)
    (thread,) = found[pid].threads
    expected = (Act.CHILD, sleeper) if waits else (Act.POLL, None)
    assert (thread.act, thread.child) == expected


def test_a_pipe_to_be_woken_by_is_no_child() -> None:
    def master() -> None:
        reading, _ = os.pipe()
        pid = os.fork()  # which has both ends too, as a worker has its master's
        if pid == 0:
            kernel.die_with_parent(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        select.select([reading], [], [])

    with blocked(master) as pid:
        found, _ = look(pid)
    (thread,) = found[pid].threads
    assert (thread.act, thread.child) == (Act.POLL, None)
    assert [target.kind for target in thread.targets] == [FdKind.PIPE]


def test_a_loop_that_only_its_own_process_can_wake_has_no_set_of_sockets() -> None:
    def helper() -> None:
        with select.epoll() as poll:
            poll.register(os.eventfd(0), select.EPOLLIN)
            poll.poll()

    with blocked(helper) as pid:
        found, _ = look(pid)
    assert [target.kind for target in found[pid].threads[0].targets] == [FdKind.EVENT]


def between_looks(monkeypatch: pytest.MonkeyPatch, do: Callable[[float], None]) -> None:
    """Let something happen between the two looks instead of a pause."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=do)
    monkeypatch.setattr(reader, "time", clock)


def receive_again_and_again(end: socket.socket) -> None:
    """Wait in the same call for each byte."""
    while end.recv(1):
        pass


def test_a_worker_that_waits_in_the_same_call_again_has_moved(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = partial(receive_again_and_again, ends.server)
    with blocked(work) as pid:

        def serve_one(_: float) -> None:
            """Let it serve a request between the looks, and go back to where it was."""
            before = glance_at(pid, pid)
            ends.client.send(b"x")
            wait_until(lambda: back_after(before, glance_at(pid, pid)))

        between_looks(monkeypatch, serve_one)
        found, _ = look(pid)
        monkeypatch.undo()
        at_rest, _ = look(pid)
    assert found[pid].threads[0].still is False
    assert at_rest[pid].threads[0].still is True


def back_after(before: Glance | None, now: Glance | None) -> bool:
    """Say whether a thread has been on a CPU and waits in the same call again."""
    assert before is not None
    assert now is not None
    same = now.status.state == before.status.state == "S" and now.call == before.call
    return same and now.status.sleeps != before.status.sleeps


def spin() -> None:
    """Run without ever waiting."""
    while True:
        pass


@contextlib.contextmanager
def spinning() -> Iterator[int]:
    """Yield the pid of a process that wants a core all the time."""
    pid = os.fork()
    if pid == 0:
        kernel.die_with_parent(os.getppid(), signal.SIGKILL)
        spin()
    try:
        wait_until(lambda: states(pid) == ["R"])
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_thread_that_runs_all_the_time_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with spinning() as pid:
        schedstat = Path(f"/proc/{pid}/schedstat")

        def until_it_got_a_core(_: float) -> None:
            before = schedstat.read_text()
            wait_until(lambda: schedstat.read_text().split()[0] != before.split()[0])

        between_looks(monkeypatch, until_it_got_a_core)
        found, _ = look(pid)
    assert (found[pid].threads[0].act, found[pid].threads[0].still) == (Act.RUN, True)


def glance(state: str, sleeps: int = 7, ran: int | None = None) -> Glance:
    """Return a look at a thread that is in recv(), or runs."""
    call = SystemCall(45, (5, 0, 0, 0, 0, 0), 1 << 40) if state == "S" else None
    return Glance(ThreadStatus("w", state, 0, 0, sleeps, 3, None), call, False, ran)


@pytest.mark.parametrize(
    ("before", "after", "still"),
    [
        (glance("R", ran=5), glance("R", ran=6), True),
        (glance("R", ran=5), glance("R", ran=5), None),
        (glance("R"), glance("R"), None),
        (glance("R", ran=5), glance("R", sleeps=8, ran=9), False),
        (glance("S"), glance("S"), True),
        (glance("S"), glance("S", sleeps=8), False),
        (glance("S"), glance("R", ran=5), False),
        (glance("S"), None, False),
    ],
)
def test_what_two_looks_tell(before: Glance, after: Glance | None, still: bool | None) -> None:
    assert is_still(before, after) is still


def test_one_look_does_not_say_still() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        found, gaps = read_waits([pid], (), twice=False)
        hurried, why = read_waits([pid], (), seconds=0.05)
    assert found[pid].threads[0].still is None
    assert not gaps
    assert hurried[pid].threads[0].still is None
    assert "0.1 s later" in why[0].why


def test_a_stopped_process() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: states(pid) == ["T"])
        found, _ = look(pid)
    assert found[pid].threads[0].act is Act.STOPPED
    assert found[pid].tracer is None


def test_who_waits_for_a_child_of_vfork_waits_for_no_disk(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading, writing = os.pipe()

    def spawn() -> None:
        os.read(reading, 1)
        opening = (os.POSIX_SPAWN_OPEN, 0, os.fspath(fifo), os.O_RDONLY, 0)
        os.posix_spawn("/bin/true", ["true"], {}, file_actions=[opening])

    with blocked(spawn) as pid:
        os.write(writing, b"x")
        wait_until(lambda: states(pid) == ["D"])
        try:
            found, _ = look(pid)
            (child,) = children(pid)
        finally:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))  # lets the child go on
    (thread,) = found[pid].threads
    assert (thread.act, thread.child) == (Act.CHILD, child)


@root
def test_a_child_in_a_container_has_the_number_that_it_has_here() -> None:
    def wait_inside() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWPID):
            os._exit(1)
        if os.fork():
            time.sleep(600)
        kernel.die_with_parent(0, signal.SIGKILL)  # a parent in another namespace has no number
        subprocess.run(["sleep", "600"], check=False)

    with blocked(wait_inside) as pid:
        (inner,) = children(pid)
        wait_until(lambda: look(inner)[0][inner].threads[0].act is Act.CHILD)
        found, _ = look(inner)
        assert found[inner].threads[0].child == children(inner)[0]


@root
def test_a_group_that_is_frozen_by_version_1_waits_for_no_disk() -> None:
    group = Path(f"/sys/fs/cgroup/freezer/twdiag-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer of version 1 here: {error}")
    with blocked(partial(time.sleep, 600)) as pid:
        try:
            (group / "cgroup.procs").write_text(f"{pid}\n")
            (group / "freezer.state").write_text("FROZEN")
            wait_until(lambda: states(pid) == ["D"])
            frozen, _ = look(pid)
        finally:
            (group / "freezer.state").write_text("THAWED")
        thawed, _ = look(pid)
    group.rmdir()
    assert frozen[pid].frozen is True
    assert thawed[pid].frozen is False


def test_the_files_that_say_whether_a_group_is_frozen() -> None:
    text = b"7:freezer:/docker/1\n3:cpu,cpuacct:/\n0::/a.slice\n"
    assert list(reader.freezers(text)) == [
        ("/sys/fs/cgroup/freezer/docker/1/freezer.state", b"FROZEN"),
        ("/sys/fs/cgroup/a.slice/cgroup.events", b"frozen 1"),
    ]


@given(st.binary(max_size=200))
def test_any_groups(data: bytes) -> None:
    assert all(path.startswith("/sys/fs/cgroup/") for path, _ in reader.freezers(data))


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_in_the_hands_of_a_debugger() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with blocked(partial(time.sleep, 600)) as pid:
        if libc.ptrace(PTRACE_ATTACH, pid, None, None):
            pytest.skip(f"no process may be traced here: {os.strerror(ctypes.get_errno())}")
        wait_until(lambda: states(pid) == ["t"])
        found, _ = look(pid)
    assert found[pid].threads[0].act is Act.TRACED
    assert found[pid].tracer == os.getpid()


def test_a_process_that_is_gone_is_a_gap() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        pass
    found, gaps = look(pid)
    assert not found
    assert [gap.what for gap in gaps] == ["waits"]
    assert "gone" in gaps[0].why


def test_no_time_is_a_gap() -> None:
    _, gaps = read_waits([os.getpid()], (), seconds=-1.0)
    assert "want of time" in gaps[0].why


@root
def test_the_own_user_sees_what_root_sees(ends: Ends) -> None:
    if reader._ptrace_scope() not in (None, 0):
        pytest.skip("Yama keeps processes of one user apart here")
    inodes = (ends.inode(ends.server),)

    def loop() -> None:
        poll = select.epoll()
        poll.register(ends.server, select.EPOLLIN)
        start(partial(ends.client.recv, 1), poll.poll)

    with blocked(loop, threads=3, user=NOBODY) as pid:
        as_root = look(pid, inodes)
        as_owner = as_user(NOBODY, partial(look, pid, inodes))
    assert as_owner == as_root
    assert not as_root[1]
    assert as_root[0][pid].epolls
    assert others(as_root[0][pid])[0].targets[0].inode == ends.inode(ends.client)


@root
def test_somebody_else_hears_which_right_is_missing(ends: Ends) -> None:
    with blocked(partial(ends.client.recv, 1)) as pid:
        found, gaps = as_user(NOBODY, partial(look, pid))
    (thread,) = found[pid].threads
    assert thread.act is Act.UNSEEN
    assert thread.state == "S"
    assert thread.still is True
    assert found[pid].denied
    assert found[pid].epolls is None
    (gap,) = gaps
    assert f"pid {pid}" in gap.why
    assert "CAP_SYS_PTRACE" in gap.how


@root
def test_somebody_else_still_sees_that_a_process_is_stopped() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: states(pid) == ["T"])
        found, _ = as_user(NOBODY, partial(look, pid))
    assert found[pid].threads[0].act is Act.STOPPED


@pytest.mark.parametrize(
    ("scope", "uid", "words"),
    [
        (0, os.geteuid(), "CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"),
        (1, os.geteuid(), "CAP_SYS_PTRACE"),
        (1, os.geteuid() + 1, "CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"),
        (2, os.geteuid(), "CAP_SYS_PTRACE"),
        (
            3,
            0,
            "kernel.yama.ptrace_scope is 3: nobody may, until the host starts with a lower value",
        ),
        (None, 0, "CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"),
    ],
)
def test_yama_is_named(
    scope: int | None, uid: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_ptrace_scope", lambda: scope)
    monkeypatch.setattr(rights, "to_get", lambda *wanted: ", ".join(wanted))
    found, _ = look(os.getpid())
    waits = found[os.getpid()]
    gap = reader._rights_gap([reader.replace(waits, denied=True, uid=uid)])
    assert gap.how == words
