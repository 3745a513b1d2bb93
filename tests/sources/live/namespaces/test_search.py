"""Every network namespace is found without rights, with its processes and what it holds."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import become_nobody, in_child
from twdiag.lab import kernel
from twdiag.model.namespaces import Namespace, Usage, by_business
from twdiag.sources.live.namespaces.entering import entered
from twdiag.sources.live.namespaces.search import (
    Found,
    Mount,
    find_namespaces,
    parse_mounts,
    parse_usage,
    read_usage,
)

from .dwellers import dweller, leave_time_waits, listen, of, own_inode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    with dweller() as blue, dweller() as red:
        ours = {os.getpid(), blue, red}
        wrong = misplaced(ours)
        for _ in range(4):  # others on this host go into a namespace and come back meanwhile
            wrong = wrong and wrong & misplaced(ours)
    assert not wrong


def misplaced(ours: set[int]) -> set[int]:
    """Return the processes told to be in another namespace than by their links, or nowhere."""
    before = links()
    told = {pid: found.inode for found in find_namespaces().namespaces for pid in found.pids}
    stayed = before.items() & links().items()
    return {pid for pid, inode in stayed if told.get(pid, inode) != inode} | ours - told.keys()


def links() -> dict[int, int]:
    """Return the namespace of each process by its link, where even root may read it."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found[int(name)] = os.stat(f"/proc/{name}/ns/net").st_ino
    return found


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
    assert not namespace.pids
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
        assert not namespace.pids
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
