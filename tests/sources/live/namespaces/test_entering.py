"""A namespace is entered with the rights for it, and left again whatever happens."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from twdiag.errors import SourceError
from twdiag.lab import kernel
from twdiag.model.namespaces import Namespace, Usage
from twdiag.sources.live.namespaces import entering
from twdiag.sources.live.namespaces.entering import (
    Refused,
    Vanished,
    entered,
    inside,
    stream_inside,
)
from twdiag.sources.live.namespaces.search import Found, find_namespaces, read_usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from tests.sources.live.confinement import become_nobody, in_child

from .dwellers import (
    dweller,
    leave_time_waits,
    listen,
    of,
    own_inode,
    ports_listening,
    skip_unless_entered,
)


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
        skip_unless_entered(namespace)
        with entered(namespace):
            assert own_inode() == namespace.inode
            assert ports_listening() == {7101}
            assert read_usage() == Usage(1, 0)
        assert own_inode() == before
        with pytest.raises(ZeroDivisionError), entered(namespace):
            _ = 1 / 0
        assert own_inode() == before


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


def test_a_pipe_where_a_namespace_was_mounted_holds_nobody_up(tmp_path: Path) -> None:
    pipe = tmp_path / "blue"
    os.mkfifo(pipe)
    with pytest.raises(Vanished), entered(Namespace("blue", inode=1, paths=(str(pipe),))):
        pass


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


def test_a_look_that_cannot_come_back_is_no_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with dweller() as blue:
        namespace = of(blue, find_namespaces())
        outcomes = iter((0, errno.EPERM))
        monkeypatch.setattr(entering, "_setns_errno", lambda *_: next(outcomes))
        with pytest.raises(RuntimeError, match="cannot leave"), entered(namespace):
            pass
