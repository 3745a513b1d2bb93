"""What processes wait for in the lab: each scenario names its cause, and its healthy twin none."""

from __future__ import annotations

# Nobody may not be able to read the library of the interpreter: loaded before it is needed.
import encodings.idna  # noqa: F401
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pyroute2  # noqa: F401
import pytest

from tests.sources.live.processes.blocked import NOBODY, as_user, blocked
from twdiag import lab
from twdiag.analysis.waits import tell_waits
from twdiag.analysis.waits.commands import commands_for
from twdiag.engine import waits as engine
from twdiag.engine.waits import WaitsQuestion, host_names, look_closer
from twdiag.errors import SourceRefused
from twdiag.lab import kernel
from twdiag.lab.actors import Program, close, in_thread, listen
from twdiag.lab.scenarios.workers import (
    DATABASE_PORT,
    ask_and_go,
    ask_database,
    serve,
    start_helper,
    wait_for_threads,
)
from twdiag.model.findings import Confidence
from twdiag.model.waits import Cause, EndRole
from twdiag.software import heads
from twdiag.software.runtimes import all_runtimes
from twdiag.sources.live.processes.descriptors import descriptors
from twdiag.sources.live.processes.waits import read_waits
from twdiag.sources.live.sockets.netlink import find_sockets
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.analysis.upstreams import EndNames
    from twdiag.engine.waits import WaitsAnswer
    from twdiag.lab import Stage
    from twdiag.lab.actors import Sockets
    from twdiag.model.snapshot import Gap
    from twdiag.model.sockets import Socket
    from twdiag.model.waits import Waits

NAMES = (
    "stuck-on-upstream",
    "slow-upstream",
    "workers-in-lock",
    "idle-workers",
    "epoll-forgot",
    "inherited",
    "not-inherited",
    "stopped",
    "close-wait-never-accepted",
    "unix-upstream",
    "helper-beside",
    "forked-helper",
    "old-child",
    "child-awaited",
)
CLIENTS = 5
WORKERS = 3
# Abstract: it goes with its network namespace.
DATABASE = "\0/run/.s.PGSQL.5432"


def stuck_on_unix_socket(stage: Stage) -> None:
    """Let all workers of a server wait for a database behind a Unix socket."""
    Program(stage, "database").do(serve_unix)
    server, client = serve(stage, CLIENTS)
    server.do(ask_unix)
    ask_and_go(stage, client, CLIENTS)
    wait_for_threads(stage, "server", WORKERS + 1)


def serve_unix(_: Sockets) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(DATABASE)
    listener.listen()
    in_thread(accept_unix, listener)


def accept_unix(listener: socket.socket) -> None:
    accepted = [listener.accept() for _ in range(WORKERS)]
    accepted[0][0].recv(1)


def ask_unix(_: Sockets) -> None:
    for _number in range(WORKERS):
        database = socket.socket(socket.AF_UNIX)
        database.connect(DATABASE)
        in_thread(database.recv, 1)


def stuck_with_a_helper_beside(stage: Stage) -> None:
    """Let a server that is stuck on its database have a helper that inherited its connections."""
    Program(stage, "database").do(listen, port=DATABASE_PORT)
    server, client = serve(stage, CLIENTS)
    stage.notes["helper"] = server.do(start_helper, inheritable=True)
    server.do(ask_database, WORKERS)
    ask_and_go(stage, client, CLIENTS)
    wait_for_threads(stage, "server", WORKERS + 1)


def left_to_a_fork(stage: Stage) -> None:
    """Let a server fork a helper without exec(), and close its connections."""
    server, client = serve(stage, CLIENTS)
    stage.notes["helper"] = server.do(fork_helper)
    client.do(close)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})
    server.do(close)


def fork_helper(sockets: Sockets) -> int:
    parent = os.getpid()
    helper = os.fork()
    if not helper:
        for listener in sockets.listening:  # who keeps it is a worker
            listener.close()
        kernel.die_with_parent(parent, signal.SIGKILL)
        time.sleep(3600)
    return helper


def old_child_of_a_master(stage: Stage) -> None:
    """Let a master replace a child that has connections, as Apache does it."""
    left_to_a_fork(stage)
    server = next(actor for actor in stage.actors if actor.name == "server")
    time.sleep(0.02)  # processes that start within the same 10 ms have the same start time
    server.say((fork_heir, (), {}))
    server.hear()


def fork_heir(_: Sockets) -> int:
    parent = os.getpid()
    heir = os.fork()
    if not heir:
        kernel.die_with_parent(parent, signal.SIGKILL)
        time.sleep(3600)
    return heir


def waits_for_its_child(stage: Stage) -> None:
    """Let the only worker of a server wait for a program that does not end."""
    server, client = serve(stage, CLIENTS)
    stage.notes["child"] = server.do(await_child)
    ask_and_go(stage, client, CLIENTS)
    wait_for_threads(stage, "server", 2)


def await_child(_: Sockets) -> int:
    parent = os.getpid()
    child = subprocess.Popen(
        ["sleep", "3600"],
        preexec_fn=lambda: kernel.die_with_parent(parent, signal.SIGKILL),
    )
    in_thread(child.wait)
    return child.pid


OWN = {
    "forked-helper": lab.Scenario("forked-helper", "", "", left_to_a_fork),
    "old-child": lab.Scenario("old-child", "", "", old_child_of_a_master),
    "child-awaited": lab.Scenario("child-awaited", "", "", waits_for_its_child),
    "unix-upstream": lab.Scenario("unix-upstream", "", "", stuck_on_unix_socket),
    "helper-beside": lab.Scenario("helper-beside", "", "", stuck_with_a_helper_beside),
}
# Before a play: in the user namespace of an unprivileged one everybody is root.
ROOT = os.geteuid() == 0


class Seen(NamedTuple):
    """What was told of the sockets of a server, of its listener, and what a stranger was told."""

    about: tuple[WaitsAnswer | None, list[Gap]]
    listening: tuple[WaitsAnswer | None, list[Gap]]
    stranger: tuple[WaitsAnswer | None, list[Gap]] | None

    @property
    def held(self) -> WaitsAnswer | None:
        return self.about[0]

    @property
    def sockets(self) -> Waits:
        assert self.held is not None
        return self.held.waits

    @property
    def listener(self) -> Waits:
        assert self.listening[0] is not None
        return self.listening[0].waits


def look(stage: Stage, stranger: bool = ROOT) -> Seen:
    """Return what is told of the processes on a stage that hold its sockets."""
    pids = [actor.pid for actor in stage.actors if actor.name != "client"]
    helper = stage.notes.get("helper")
    if isinstance(helper, int):
        pids.append(helper)
    # Of several the first one, as the search for owners has it.
    pids.reverse()
    held = {d.inode: pid for pid in pids for d in descriptors(pid) if d.inode is not None}
    rows = find_sockets(held, seconds=10.0)
    about = _of(rows, State.CLOSE_WAIT) or _served(rows)
    listeners = {
        inode: row for inode, row in rows.items() if row.state is State.LISTEN and _is_main(row)
    }
    names = host_names({(row.local_address, row.local_port): "" for row in listeners.values()})
    return Seen(
        _told(held, about, names, listeners),
        _told(held, listeners, names, listeners),
        as_user(NOBODY, partial(_told, held, about or listeners, names, listeners))
        if stranger
        else None,
    )


def _of(rows: dict[int, Socket], state: State) -> dict[int, Socket]:
    return {inode: row for inode, row in rows.items() if row.state is state}


def _is_main(row: Socket) -> bool:
    return row.local_port == 8080


def _served(rows: dict[int, Socket]) -> dict[int, Socket]:
    return {i: row for i, row in _of(rows, State.ESTABLISHED).items() if _is_main(row)}


def _told(
    held: dict[int, int],
    about: dict[int, Socket],
    names: EndNames,
    listeners: dict[int, Socket],
) -> tuple[WaitsAnswer | None, list[Gap]]:
    pids = tuple(sorted({held[inode] for inode in about}))
    asked = WaitsQuestion(pids, about, frozenset(listeners))
    answers, gaps = look_closer({1: asked}, names, seconds=10.0)
    return answers.get(1), gaps


def _play_all(stranger: bool) -> dict[str, Seen] | str:
    """Return what was seen of each scenario, or why none can be played here."""
    plays = []
    for name in NAMES:
        scenario = OWN.get(name) or lab.find(name)
        assert scenario is not None
        plays.append(lab.start(scenario, partial(look, stranger=stranger), settle=0.2))
    try:
        return {play.scenario.name: play.result(timeout=60) for play in plays}
    except SourceRefused as error:
        return f"{error.what}; {error.next_step}"
    finally:
        for play in plays:
            play.close()


@pytest.fixture(scope="module")
def seen() -> dict[str, Seen]:
    seen = _play_all(stranger=ROOT)
    if isinstance(seen, str):
        pytest.skip(seen)
    return seen


@pytest.fixture(scope="module")
def seen_by_owner() -> dict[str, Seen]:
    """The same, played and looked at by a user without any rights."""
    if not ROOT:
        pytest.skip("only root can look as another user; the others are it")
    # They read files of the package, which nobody may not be able to do.
    all_runtimes()
    heads()
    seen = as_user(NOBODY, partial(_play_all, stranger=False))
    if isinstance(seen, str):
        pytest.skip(seen)
    return seen


@pytest.mark.parametrize(
    ("name", "cause", "sure"),
    [
        ("stuck-on-upstream", Cause.UPSTREAM, Confidence.OBSERVED),
        ("workers-in-lock", Cause.LOCKED, Confidence.INFERRED),
        ("epoll-forgot", Cause.FORGOTTEN, Confidence.INFERRED),
        ("inherited", Cause.INHERITED, Confidence.INFERRED),
        ("stopped", Cause.STOPPED, Confidence.OBSERVED),
        ("unix-upstream", Cause.UPSTREAM, Confidence.OBSERVED),
        ("helper-beside", Cause.UPSTREAM, Confidence.OBSERVED),
        ("forked-helper", Cause.INHERITED, Confidence.INFERRED),
        ("child-awaited", Cause.CHILD, Confidence.OBSERVED),
    ],
)
def test_each_trouble_names_its_cause(
    name: str, cause: Cause, sure: Confidence, seen: dict[str, Seen]
) -> None:
    told = seen[name].sockets.conclusion
    assert told is not None
    assert (told.cause, told.confidence) == (cause, sure)


@pytest.mark.parametrize("name", ["slow-upstream", "idle-workers"])
def test_its_healthy_twin_has_no_cause(name: str, seen: dict[str, Seen]) -> None:
    assert seen[name].sockets.watched == 5
    assert seen[name].sockets.conclusion is None


def test_what_was_not_inherited_leaves_nothing_to_ask_about(seen: dict[str, Seen]) -> None:
    assert seen["not-inherited"].held is None


def test_the_next_command_is_that_of_the_runtime(seen: dict[str, Seen]) -> None:
    answer = seen["stuck-on-upstream"].held
    assert answer is not None
    assert answer.commands[0].run.startswith("py-spy dump --pid ")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("inherited", r"ps -o pid,ppid,user,etime,args -p \d+,\d+"),
        ("stopped", r"kill -CONT \d+"),
        ("forked-helper", r"ps -o pid,ppid,user,etime,args -p \d+,\d+"),
        ("child-awaited", r"ps -o pid,etime,wchan:24,args -p \d+"),
    ],
)
def test_where_a_stack_tells_nothing_another_command_comes_first(
    name: str, command: str, seen: dict[str, Seen]
) -> None:
    answer = seen[name].held
    assert answer is not None
    assert re.fullmatch(command, answer.commands[0].run)


def test_a_worker_that_accepts_is_found_through_its_master() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    row = find_sockets({os.fstat(listener.fileno()).st_ino}, seconds=10.0)

    def accept() -> None:
        listener.accept()

    with blocked(accept):
        # The search for owners has stopped at this process, the first one with the listener.
        answers, _ = look_closer(
            {1: WaitsQuestion((os.getpid(),), row)}, host_names({}), seconds=10.0
        )
    told = answers[1].waits
    assert told.processes >= 2
    assert told.watched == 1
    assert told.conclusion is None


def test_nobody_is_said_not_to_accept_while_not_all_were_sought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    row = find_sockets({os.fstat(listener.fileno()).st_ino}, seconds=10.0)
    question = {1: WaitsQuestion((os.getpid(),), row)}
    assert look_closer(question, host_names({}), seconds=10.0)[0][1].waits.watched == 0
    monkeypatch.setattr(engine, "read_holders", lambda *_: ({}, False))
    told = look_closer(question, host_names({}), seconds=10.0)[0][1].waits
    assert (told.watched, told.conclusion) == (None, None)


def test_a_process_too_many_is_a_gap_and_may_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    row = find_sockets({os.fstat(listener.fileno()).st_ino}, seconds=10.0)
    with subprocess.Popen(["sleep", "60"]) as other:
        question = {1: WaitsQuestion((os.getpid(), other.pid), row)}
        answers, gaps = look_closer(question, host_names({}), seconds=10.0)
        assert (answers[1].waits.watched, gaps) == (0, [])
        monkeypatch.setattr(engine, "_MOST_PROCESSES", 1)
        answers, gaps = look_closer(question, host_names({}), seconds=10.0)
        other.kill()
    assert (answers[1].waits.watched, answers[1].waits.conclusion) == (None, None)
    assert [gap.why for gap in gaps] == ["what 1 more process waits for was not looked at"]


def test_the_process_that_is_stopped_is_to_go_on_and_no_other() -> None:
    with subprocess.Popen(["sleep", "60"]) as idle, subprocess.Popen(["sleep", "60"]) as stopped:
        stopped.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        found, _ = read_waits([idle.pid, stopped.pid], (), 10.0)
        idle.kill()
        stopped.kill()
    # All threads of a runtime that are idle are left out, here those of a whole process.
    seen = [replace(found[idle.pid], threads=()), found[stopped.pid]]
    waits = tell_waits(seen, {}, {}, host_names({}))
    (command,) = commands_for(waits, seen, ())
    assert command.run == f"kill -CONT {stopped.pid}"


@pytest.mark.parametrize("name", ["slow-upstream", "idle-workers", "epoll-forgot"])
def test_a_loop_accepts_whoever_comes(name: str, seen: dict[str, Seen]) -> None:
    told = seen[name].listener
    assert told.watched == 1
    assert told.conclusion is None


def test_the_upstream_is_the_third_end(seen: dict[str, Seen]) -> None:
    told = seen["stuck-on-upstream"].sockets
    assert told.lines[0].startswith("3 of 4 threads in recv() from 127.0.0.1:5432 (postgres)")
    assert told.conclusion is not None
    end = told.conclusion.end
    assert end is not None
    assert (end.role, end.address, end.port) == (EndRole.UPSTREAM, "127.0.0.1", 5432)


def test_a_database_behind_a_unix_socket_is_named_by_path(seen: dict[str, Seen]) -> None:
    told = seen["unix-upstream"].sockets
    assert re.match(
        r"3 of 4 threads in recv\(\) from the Unix socket @/run/\.s\.PGSQL\.5432 "
        r"\(database, pid \d+\), 1 in recv\(\) from a Unix socket",
        told.lines[0],
    )
    assert told.conclusion is not None
    assert told.conclusion.sentence.startswith("all 3 workers wait for the Unix socket @/run/.s.")


def test_a_helper_beside_a_stuck_parent_is_told_and_not_blamed(seen: dict[str, Seen]) -> None:
    answer = seen["helper-beside"].held
    assert answer is not None
    assert answer.waits.lines[-1].startswith("sleep (pid ")
    assert "a close() there sends no FIN while the child lives" in answer.waits.lines[-1]
    assert answer.child is not None
    assert answer.child.left == 0


def test_the_forgotten_ones_are_counted(seen: dict[str, Seen]) -> None:
    told = seen["epoll-forgot"].sockets
    assert (told.sockets, told.watched, told.parked) == (39, 0, 0)


def test_the_child_is_called_what_it_is(seen: dict[str, Seen]) -> None:
    told = seen["inherited"].sockets.conclusion
    assert told is not None
    assert told.sentence.startswith("sleep (pid ")
    assert "inherited 5 sockets of pid" in told.sentence


@pytest.mark.parametrize(("name", "by_exec"), [("inherited", True), ("forked-helper", False)])
def test_whether_a_helper_was_started_by_exec_is_seen(
    name: str, by_exec: bool, seen: dict[str, Seen]
) -> None:
    answer = seen[name].held
    assert answer is not None
    assert answer.child is not None
    assert (answer.child.parent_name, answer.child.by_exec) == ("server", by_exec)


def test_a_child_that_a_master_has_replaced_is_an_old_worker_and_inherited_nothing(
    seen: dict[str, Seen],
) -> None:
    answer = seen["old-child"].held
    assert answer is not None
    assert answer.child is None
    assert answer.replaced is not None
    assert answer.waits.conclusion is not None
    assert answer.waits.conclusion.cause is not Cause.INHERITED
    assert answer.commands[0].look.endswith("which serves new connections")


def test_nobody_calls_accept(seen: dict[str, Seen]) -> None:
    told = seen["close-wait-never-accepted"].listener
    assert told.conclusion is not None
    assert told.conclusion.cause is Cause.NOT_ACCEPTING


@pytest.mark.parametrize("name", NAMES)
def test_the_own_user_is_told_what_root_is_told(
    name: str, seen: dict[str, Seen], seen_by_owner: dict[str, Seen]
) -> None:
    for root, owner in (
        (seen[name].about, seen_by_owner[name].about),
        (seen[name].listening, seen_by_owner[name].listening),
    ):
        assert _causes(owner) == _causes(root)
        assert not owner[1]


def _causes(told: tuple[WaitsAnswer | None, list[Gap]]) -> tuple[object, ...]:
    """Return what is concluded, how surely, and how many sockets are watched."""
    if told[0] is None:
        return ()
    waits = told[0].waits
    sure = waits.conclusion and (waits.conclusion.cause, waits.conclusion.confidence)
    return sure, waits.sockets, waits.watched


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("not-inherited", "stopped")])
def test_a_stranger_hears_which_right_is_missing(name: str, seen: dict[str, Seen]) -> None:
    if seen[name].stranger is None:
        pytest.skip("only root can look as another user")
    answer, gaps = seen[name].stranger
    assert answer is not None
    assert not answer.waits.conclusion
    assert any("CAP_SYS_PTRACE" in gap.how for gap in gaps)


def test_a_stranger_sees_a_stopped_process(seen: dict[str, Seen]) -> None:
    if seen["stopped"].stranger is None:
        pytest.skip("only root can look as another user")
    answer = seen["stopped"].stranger[0]
    assert answer is not None
    assert answer.waits.conclusion is not None
    assert answer.waits.conclusion.cause is Cause.STOPPED
