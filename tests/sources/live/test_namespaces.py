"""Every network namespace is found without rights, entered with them, and left again."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceError
from twdiag.lab import kernel
from twdiag.model.namespaces import Namespace, Usage, by_business
from twdiag.sources.live import namespaces
from twdiag.sources.live.namespaces import (
    Found,
    Mount,
    Refused,
    Vanished,
    Visit,
    entered,
    find_namespaces,
    inside,
    left_out,
    parse_mounts,
    parse_usage,
    read_usage,
    stream_inside,
    visit,
)

from .confinement import become_nobody, in_child
from .dwellers import dweller

if TYPE_CHECKING:
    from collections.abc import Iterator


def listen(port: int = 7101) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def leave_time_waits(count: int = 5, port: int = 7102) -> socket.socket:
    """Listen, and close connections at the server first: that many TIME_WAITs."""
    server = socket.create_server(("127.0.0.1", port))
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
        served.close()
        client.recv(1)
        client.close()
    return server


def ports_listening() -> set[int]:
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].partition(":")[2], 16) for line in lines if " 0A " in line}


def own_inode() -> int:
    return os.stat("/proc/self/ns/net").st_ino


def of(pid: int, found: Found) -> Namespace:
    return next(namespace for namespace in found.namespaces if pid in namespace.pids)


def test_each_private_namespace_is_found_with_its_processes_and_what_it_holds() -> None:
    with dweller(leave_time_waits) as blue, dweller(listen) as red:
        found = find_namespaces()
        inodes = [os.stat(f"/proc/{pid}/ns/net").st_ino for pid in (blue, red)]
    assert [of(pid, found).inode for pid in (blue, red)] == inodes
    assert of(blue, found).usage == Usage(1, 5)
    assert of(red, found).usage == Usage(1, 0)
    assert of(blue, found).pids == (blue,)
    assert found.own.inode == own_inode()
    assert os.getpid() in found.own.pids
    assert len({n.table for n in found.namespaces if n.pids}) == sum(
        bool(n.pids) for n in found.namespaces
    )


def test_grouping_by_the_table_agrees_with_the_links_that_need_rights() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may read the links of every process")
    with dweller(), dweller():
        found = find_namespaces()
        for namespace in found.namespaces:
            for pid in namespace.pids:
                with contextlib.suppress(OSError):  # ended meanwhile, or not even root's to see
                    assert os.stat(f"/proc/{pid}/ns/net").st_ino == namespace.inode


def test_the_oldest_process_is_the_owner_and_lends_its_name() -> None:
    with dweller(name="pause (1)") as first:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)

        def join() -> None:
            kernel.setns(target)

        target = os.open(f"/proc/{first}/ns/net", os.O_RDONLY)
        try:
            kernel.setns(target)
            late = subprocess.Popen(["sleep", "30"], start_new_session=True)
            kernel.setns(home)
            namespace = of(late.pid, find_namespaces())
        finally:
            late.kill()
            late.wait()
            os.close(home)
            os.close(target)
    assert namespace.pid == first
    assert namespace.label == f"pause (1) (pid {first})"


def test_without_rights_the_same_namespaces_are_found_and_are_refused() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")

    def look(pid: int) -> tuple[Found, str] | None:
        if not become_nobody():
            return None
        found = find_namespaces()
        with pytest.raises(Refused) as refused, entered(of(pid, found)):
            pass
        return found, refused.value.next_step

    with dweller(leave_time_waits) as blue:
        root = find_namespaces()
        seen = in_child(lambda: look(blue))
    if seen is None:
        pytest.skip("this namespace knows no other user")
    found, next_step = seen
    assert of(blue, found).usage == Usage(1, 5)
    assert of(blue, found).inode is None
    assert of(blue, found).table == of(blue, root).table
    assert "CAP_SYS_ADMIN" in next_step


def test_a_namespace_is_entered_and_left_again() -> None:
    before = own_inode()
    with dweller(listen) as blue:
        namespace = of(blue, find_namespaces())
        _skip_unless_root(namespace)
        with entered(namespace):
            assert own_inode() == namespace.inode
            assert ports_listening() == {7101}
            assert read_usage() == Usage(1, 0)
        assert own_inode() == before
        with pytest.raises(ZeroDivisionError), entered(namespace):
            _ = 1 / 0
        assert own_inode() == before


def _skip_unless_root(namespace: Namespace) -> None:
    try:
        with entered(namespace):
            pass
    except Refused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")


def test_only_the_main_thread_enters() -> None:
    problems: list[Exception] = []

    def enter() -> None:
        try:
            with entered(Namespace("x", table=1)):
                pass
        except RuntimeError as error:
            problems.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "main thread" in str(problems)


def test_a_namespace_that_has_ended_is_not_mistaken_for_another() -> None:
    with dweller() as blue, dweller() as red:
        known = find_namespaces()
        gone = of(blue, known)
        reused = Namespace("reused", gone.table, gone.inode, (red,))
        unknown = Namespace("reused", gone.table, None, (red,))
        for namespace in (reused, unknown):
            with pytest.raises(Vanished), entered(namespace):
                pass
    with pytest.raises(Vanished), entered(gone):
        pass


@pytest.fixture
def named(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A namespace without a process that a mount keeps, as `ip netns add` does it."""
    path = tmp_path / "name with\ttab"
    path.touch()

    def bind(pid: int) -> int:
        return subprocess.run(
            ["mount", "--bind", f"/proc/{pid}/ns/net", str(path)], check=False, capture_output=True
        ).returncode

    with dweller(leave_time_waits) as pid:
        if bind(pid):
            pytest.skip("only root may mount a namespace")
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
    try:
        yield str(path), inode
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_namespace_without_a_process_is_found_by_its_mount(named: tuple[str, int]) -> None:
    path, inode = named
    namespace = next(n for n in find_namespaces().namespaces if n.inode == inode)
    assert namespace.processless
    assert namespace.paths == (path,)
    assert namespace.label == "name with\ttab"
    assert namespace.usage is None
    with entered(namespace):
        usage = read_usage()
    assert usage is not None
    assert usage.time_wait == 5


def test_a_mount_of_another_mount_namespace_is_found_too(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a namespace")
    script = (
        f"mount --make-rprivate / && touch {tmp_path}/far && "
        f"unshare -n true && mount --bind /proc/$BLUE/ns/net {tmp_path}/far && echo && cat"
    )
    with contextlib.ExitStack() as stack:
        with dweller() as pid:
            other = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", script],
                env=os.environ | {"BLUE": str(pid)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.callback(other.wait)
            assert other.stdin is not None
            assert other.stdout is not None
            stack.callback(other.stdin.close)
            stack.callback(other.stdout.close)
            if not other.stdout.readline():
                pytest.skip("no mount namespace can be made")
            inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        assert not (tmp_path / "far").exists() or os.stat(tmp_path / "far").st_ino != inode
        namespace = next(n for n in find_namespaces().namespaces if n.inode == inode)
        assert namespace.processless
        assert namespace.label == "far"
        with entered(namespace):
            assert own_inode() == inode


def test_a_mounted_namespace_with_processes_is_counted_once(named: tuple[str, int]) -> None:
    path, inode = named
    with dweller():
        target = os.open(path, os.O_RDONLY)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        kernel.setns(target)
        inner = subprocess.Popen(["sleep", "30"])
        kernel.setns(home)
        try:
            found = [n for n in find_namespaces().namespaces if n.inode == inode]
        finally:
            inner.kill()
            inner.wait()
            os.close(home)
            os.close(target)
    assert [(n.pids, n.paths) for n in found] == [((inner.pid,), (path,))]
    assert found[0].label == "name with\ttab"


def test_nobody_is_told_of_mounts_that_cannot_be_matched(named: tuple[str, int]) -> None:
    def look() -> Found | None:
        return find_namespaces() if become_nobody() else None

    with dweller():
        found = in_child(look)
    if found is None:
        pytest.skip("this namespace knows no other user")
    assert all(namespace.pids for namespace in found.namespaces)
    assert any("name with\ttab" in gap.why for gap in found.gaps)


def test_the_namespace_of_an_own_user_namespace_needs_no_root() -> None:
    """What an ordinary user's containers are: nobody looks into nobody's."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")

    def look() -> tuple[object, ...] | None:
        if not become_nobody():
            return None
        # A process that has changed its user belongs to root until it says otherwise.
        kernel.own_proc_files()
        with dweller(listen) as pid:
            namespace = of(pid, find_namespaces())
            with pytest.raises(Refused), entered(namespace):
                pass
            before = own_inode()
            seen = inside(namespace, lambda: (own_inode(), ports_listening()))
            with pytest.raises(SourceError, match="failed: boom"):
                inside(namespace, _fail)
            assert list(stream_inside(namespace, _count_to_a_thousand)) == [*range(1000)]
            taken = []
            with pytest.raises(SourceError, match="failed: boom"):
                taken.extend(stream_inside(namespace, _count_and_fail))
            assert taken == [*range(1000)]
            next(stream_inside(namespace, _count_to_a_thousand))  # and the rest is not wanted
            return seen, namespace.inode, before == own_inode()

    seen = in_child(look)
    if seen is None:
        pytest.skip("this namespace knows no other user")
    (inode, ports), expected, came_back = seen
    assert (inode, ports, came_back) == (expected, {7101}, True)


def _fail() -> None:
    raise ValueError("boom")


def _count_to_a_thousand() -> Iterator[int]:
    yield from range(1000)


def _count_and_fail() -> Iterator[int]:
    yield from range(1000)
    raise ValueError("boom")


def test_going_round_takes_the_busiest_first_and_leaves_the_empty_out() -> None:
    with dweller(leave_time_waits) as busy, dweller(listen) as quiet, dweller() as empty:
        found = find_namespaces()
        _skip_unless_root(of(busy, found))
        mine = tuple(of(pid, found) for pid in (empty, quiet, busy))
        visits = list(visit(mine, lambda _: ports_listening(), 60))
    assert [(v.namespace.pid, v.result, v.why_not) for v in visits] == [
        (busy, {7102}, ""),
        (quiet, {7101}, ""),
    ]


def test_an_empty_namespace_that_only_a_mount_keeps_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with dweller() as pid:
        done = subprocess.run(
            ["mount", "--bind", f"/proc/{pid}/ns/net", str(path)], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip("only root may mount a namespace")
        inode = os.stat(path).st_ino
    try:
        namespace = next(n for n in find_namespaces().namespaces if n.inode == inode)
        assert list(visit((namespace,), lambda _: 1, 60)) == []
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_what_no_time_is_left_for_is_named() -> None:
    clock = itertools.count().__next__
    busy = [Namespace(f"n{n}", n, n, (1,), usage=Usage(n, 0)) for n in range(1, 9)]
    visits = list(visit(tuple(busy), lambda _: 1, 0.5, lambda: float(clock())))
    assert {v.why_not for v in visits} == {"time"}
    (gap,) = left_out(visits)
    assert gap.why == (
        "8 namespaces were not looked at (n8, n7, n6, n5, n4 and 3 more): no time was left"
    )
    assert gap.how == "look at one alone: --netns n8"
    assert gap.partial


def test_the_own_namespace_is_looked_at_even_without_time() -> None:
    own = Namespace("host", 1, 1, (1,), own=True)
    assert list(visit((own,), lambda _: "seen", -1.0, time.monotonic)) == [Visit(own, "seen")]


def test_a_namespace_that_cannot_be_looked_at_is_a_gap_and_the_rest_goes_on() -> None:
    refused = Namespace("no", 1, 1, (2**22 + 1,), usage=Usage(9, 9))
    own = Namespace("host", 1, 1, (1,), own=True)

    def work(namespace: Namespace) -> str:
        if namespace.own:
            raise SourceError("the dump does not end")
        return "seen"

    visits = list(visit((refused, own), work, 60))
    assert [(v.namespace.label, v.why_not) for v in visits] == [
        ("host", "the dump does not end"),
        ("no", "gone"),
    ]
    assert [gap.why for gap in left_out(visits)] == [
        "1 network namespace was not looked at (host): the dump does not end"
    ]
    (gap,) = left_out([Visit(refused, None, "rights")])
    assert "no permission" in gap.why
    assert "CAP_SYS_ADMIN" in gap.how


def test_a_look_that_cannot_come_back_is_no_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with dweller() as blue:
        namespace = of(blue, find_namespaces())
        outcomes = iter((0, errno.EPERM))
        monkeypatch.setattr(namespaces, "_setns_errno", lambda *_: next(outcomes))
        with pytest.raises(RuntimeError, match="cannot leave"), entered(namespace):
            pass


def test_hidden_processes_are_a_gap(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["unshare", "-m", "mount", "-t", "proc", "-o", "hidepid=2", "proc", str(tmp_path)],
        check=False,
        capture_output=True,
    )
    if os.geteuid() != 0 or mounted.returncode:
        pytest.skip("only root may mount /proc")

    def look() -> Found | None:
        kernel.unshare(0x00020000)  # CLONE_NEWNS
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
        return find_namespaces() if become_nobody() else None

    found = in_child(look)
    if found is None:
        pytest.skip("this namespace knows no other user")
    assert any("hidepid" in gap.why for gap in found.gaps)
    assert found.own.own


# Parsers.

LINE = "36 27 0:4 net:[4026532246] /run/netns/{} rw shared:5 - nsfs nsfs rw"


def test_a_mount_line_is_understood() -> None:
    text = "23 27 0:22 / /sys rw - sysfs sysfs rw\n" + LINE.format(r"a\040b\134") + "\n"
    assert parse_mounts(text) == [Mount(4026532246, "/run/netns/a b\\")]


def test_mounts_of_other_kinds_of_namespaces_are_no_network() -> None:
    assert parse_mounts(LINE.format("x").replace("net:", "mnt:")) == []


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    assert isinstance(parse_mounts(text), list)
    parse_mounts(LINE.format("x").replace("net:[4026532246]", text))
    usage = parse_usage(text, text)
    assert usage is None or usage.total >= 0


@given(
    st.text(
        st.characters(
            exclude_categories=["Cs"], exclude_characters="\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029"
        ),
        min_size=1,
    )
)
def test_a_path_comes_back_as_it_was(name: str) -> None:
    escaped = re.sub(r"[ \t\n\\#]", lambda m: f"\\{ord(m[0]):03o}", name)
    assert parse_mounts(LINE.format(escaped)) == [Mount(4026532246, f"/run/netns/{name}")]


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.none() | st.integers(0, 10**9))
def test_usage_adds_both_families(inuse: int, time_wait: int, inuse6: int | None) -> None:
    sockstat = f"sockets: used 1\nTCP: inuse {inuse} orphan 7 tw {time_wait} alloc 9 mem 3\n"
    sockstat6 = None if inuse6 is None else f"TCP6: inuse {inuse6}\nUDP6: inuse 3\n"
    assert parse_usage(sockstat, sockstat6) == Usage(inuse + (inuse6 or 0), time_wait)
    assert parse_usage(None, sockstat6) is None


@given(st.lists(st.integers(0, 3)))
def test_the_order_is_by_business(totals: list[int]) -> None:
    found = tuple(Namespace(str(n), n, usage=Usage(t, 0)) for n, t in enumerate(totals))
    ordered = by_business((*found, Namespace("own", 99, own=True), Namespace("dark", 98)))
    assert ordered[0].own
    assert ordered[-1].label == "dark"
    sizes = [n.usage.total for n in ordered if n.usage is not None]
    assert sizes == sorted((t for t in totals if t), reverse=True)
