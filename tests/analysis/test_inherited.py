"""Which children hold a socket by accident, and which on purpose."""

from __future__ import annotations

from typing import NamedTuple

from twdiag.analysis.inherited import tell_inherited
from twdiag.model.findings import Confidence


class Held(NamedTuple):
    pid: int
    parent: int
    name: str = "server"
    executable: str = "/usr/bin/server"


PARENT = Held(10, 1)
CHILD = Held(11, 10, "sleep", "/usr/bin/sleep")
PROGRAMS = {10: "/usr/bin/server"}


def test_a_child_beside_its_parent_is_seen_to_have_inherited() -> None:
    (told,) = tell_inherited({7: (PARENT, CHILD), 8: (CHILD, PARENT)})
    assert (told.child, told.parent, told.sockets, told.shared) == (11, 10, 2, 2)
    assert told.confidence is Confidence.OBSERVED
    assert told.sentence == (
        "sleep (pid 11) inherited 2 sockets of pid 10: "
        "a close() there sends no FIN while the child lives"
    )


def test_the_parent_is_named_and_whether_there_was_an_exec() -> None:
    (told,) = tell_inherited({7: (PARENT, CHILD)})
    assert (told.parent_name, told.by_exec, told.left) == ("server", True, 0)
    forked = CHILD._replace(executable=PARENT.executable)
    (told,) = tell_inherited({7: (PARENT, forked)})
    assert told.by_exec is False
    (told,) = tell_inherited({7: (PARENT, CHILD._replace(executable=""))})
    assert told.by_exec is None
    (told,) = tell_inherited({7: (CHILD,)}, {10}, (), PROGRAMS, {10: "master"})
    assert (told.parent_name, told.left) == ("master", 1)


def test_a_child_that_is_left_alone_is_reasoned_from_the_listener() -> None:
    (told,) = tell_inherited({7: (CHILD,)}, listener_pids={10}, executables=PROGRAMS)
    assert told.confidence is Confidence.INFERRED
    assert told.sentence.endswith("of pid 10, which closed it: no FIN was sent")


def test_some_shared_and_some_left_alone() -> None:
    held = {7: (PARENT, CHILD), 8: (CHILD,)}
    (told,) = tell_inherited(held, listener_pids={10}, executables=PROGRAMS)
    assert (told.sockets, told.shared) == (2, 1)
    assert "which closed 1 of them" in told.sentence


def test_a_server_that_forks_for_each_connection_gives_it_to_its_child() -> None:
    backend = Held(11, 10)
    assert tell_inherited({7: (backend,)}, listener_pids={10}, executables=PROGRAMS) == ()


def test_a_child_that_reads_the_connection_serves_it() -> None:
    told = tell_inherited({7: (CHILD,)}, {10}, watched={7}, executables=PROGRAMS)
    assert told == ()


def test_workers_that_share_a_listener_with_their_master_own_their_connections() -> None:
    worker = Held(11, 10)
    held = {7: (worker,), 8: (worker,)}
    assert tell_inherited(held, listener_pids={10, 11}, executables=PROGRAMS) == ()


def test_a_holder_without_relatives_inherited_nothing() -> None:
    assert tell_inherited({7: (PARENT,)}, listener_pids={10}) == ()


def test_names_from_outside_are_made_harmless() -> None:
    child = CHILD._replace(name="a\nb")
    (told,) = tell_inherited({7: (PARENT, child)})
    assert "\n" not in told.sentence
