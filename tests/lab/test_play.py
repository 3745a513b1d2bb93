"""A play hands back what it should and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pyroute2  # noqa: F401  (nobody may not be able to read the interpreter's library)
import pytest

from twdiag import lab
from twdiag.errors import SourceRefused
from twdiag.lab import kernel
from twdiag.lab.actors import Program, listen

from .proctable import Seen, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.lab import Stage

PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture(scope="module", autouse=True)
def _lab_is_possible() -> None:
    try:
        lab.play(scenario(lambda _: None), lambda _: None)
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")


def scenario(build: Callable[[Stage], None], settle: float = 0.0) -> lab.Scenario:
    return lab.Scenario("test", "a test", "nothing", build, settle=settle)


def two_programs(stage: Stage) -> None:
    Program(stage, "here").do(listen)
    Program(stage, "there", peer=True).do(listen)


def record_pids(stage: Stage, file: Path) -> None:
    two_programs(stage)
    pids = [os.getpid(), *(actor.pid for actor in stage.actors)]
    # Renamed into place, so that a reader sees all of it or nothing.
    file.with_suffix(".new").write_text(" ".join(map(str, pids)))
    file.with_suffix(".new").rename(file)


def recorded_pids(file: Path) -> list[int]:
    deadline = time.monotonic() + 10
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return [int(pid) for pid in file.read_text().split()]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def children() -> set[int]:
    """Return the children of this process; the plays that all tests share are some of them."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


BEFORE: set[int] = set()


@pytest.fixture(autouse=True)
def _children_before() -> None:
    BEFORE.clear()
    BEFORE.update(children())


def no_children() -> bool:
    """Say whether a test has left no child, not even a zombie."""
    return children() <= BEFORE


def forever(_: Stage) -> NoReturn:
    while True:
        time.sleep(60)


def test_nothing_is_left_after_a_result() -> None:
    seen: Seen = lab.play(scenario(two_programs), look)
    assert len(seen.pids()) == 3
    assert not alive(seen.pids())
    assert no_children()


def test_the_result_can_be_fetched_twice() -> None:
    play = lab.start(scenario(two_programs), lambda _: os.getpid())
    assert play.result() == play.result() != os.getpid()


def test_a_large_result_does_not_block() -> None:
    play = lab.start(scenario(two_programs), lambda _: b"x" * 5_000_000)
    time.sleep(0.3)
    assert len(play.result(timeout=10)) == 5_000_000


def test_settle_can_be_replaced() -> None:
    before = time.monotonic()
    lab.start(scenario(lambda _: None, settle=60), look, settle=0).result(timeout=10)
    assert time.monotonic() - before < 10


def test_an_error_of_the_observer_is_raised(tmp_path: Path) -> None:
    def observe(_: Stage) -> NoReturn:
        raise ZeroDivisionError("of the observer")

    play = lab.start(scenario(lambda stage: record_pids(stage, tmp_path / "pids")), observe)
    with pytest.raises(ZeroDivisionError, match="of the observer") as caught:
        play.result(timeout=10)
    assert "in observe" in str(caught.value.__cause__)
    assert not alive(recorded_pids(tmp_path / "pids"))
    assert no_children()


def test_an_error_of_build_is_raised(tmp_path: Path) -> None:
    def build(stage: Stage) -> None:
        record_pids(stage, tmp_path / "pids")
        raise ValueError("of build")

    with pytest.raises(ValueError, match="of build"):
        lab.play(scenario(build), look)
    assert not alive(recorded_pids(tmp_path / "pids"))
    assert no_children()


def test_an_error_of_an_actor_is_raised() -> None:
    def build(stage: Stage) -> None:
        Program(stage, "server").do(listen, "192.0.2.1")

    with pytest.raises(
        lab.LabError, match=r"'server' failed: .*assign requested address"
    ) as caught:
        lab.play(scenario(build), look)
    assert "listener.bind" in str(caught.value.__cause__)
    assert not caught.value.next_step
    assert no_children()


def test_a_result_that_cannot_be_pickled_is_an_error() -> None:
    with pytest.raises(lab.LabError, match="cannot be handed back"):
        lab.play(scenario(two_programs), lambda _: lambda: None)


def test_a_timeout_ends_the_play(tmp_path: Path) -> None:
    play = lab.start(scenario(lambda stage: record_pids(stage, tmp_path / "pids")), forever)
    pids = recorded_pids(tmp_path / "pids")
    before = time.monotonic()
    with pytest.raises(lab.LabTimeout):
        play.result(timeout=0.1)
    assert time.monotonic() - before < 5  # after which it would be killed
    assert len(pids) == 3
    assert not alive(pids)
    assert no_children()


def test_ctrl_c_ends_the_play(tmp_path: Path) -> None:
    play = lab.start(scenario(lambda stage: record_pids(stage, tmp_path / "pids")), forever)
    pids = recorded_pids(tmp_path / "pids")
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        play.result(timeout=10)
    assert not alive(pids)
    assert no_children()


def test_ctrl_c_at_a_terminal_reaches_the_director_too(tmp_path: Path) -> None:
    def observe(stage: Stage) -> str:
        for pid in (os.getpid(), *(actor.pid for actor in stage.actors)):
            os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
        return "unmoved"

    assert lab.start(scenario(two_programs), observe).result(timeout=10) == "unmoved"


def test_an_abandoned_play_is_closed(tmp_path: Path) -> None:
    play = lab.start(scenario(lambda stage: record_pids(stage, tmp_path / "pids")), forever)
    pids = recorded_pids(tmp_path / "pids")
    del play
    assert not alive(pids)
    assert no_children()


def test_the_play_dies_with_its_caller(tmp_path: Path) -> None:
    caller = os.fork()
    if caller == 0:
        try:
            kept = lab.start(scenario(lambda s: record_pids(s, tmp_path / "pids")), forever)
            kept.result()
        finally:
            os._exit(1)
    pids = recorded_pids(tmp_path / "pids")
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    deadline = time.monotonic() + 5
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pids)


def test_a_dead_director_is_an_error() -> None:
    play = lab.start(scenario(two_programs), lambda _: os._exit(0))
    with pytest.raises(lab.LabError, match="ended without a result"):
        play.result(timeout=10)


def test_the_host_stays_as_it_is() -> None:
    before = PORT_RANGE.read_bytes(), Path("/proc/self/net/dev").read_text().count("cable")

    def build(stage: Stage) -> None:
        stage.peer()
        stage.sysctl("net.ipv4.ip_local_port_range", "40000 40099")

    inside = lab.play(scenario(build), lambda _: PORT_RANGE.read_bytes())
    assert inside.split() == [b"40000", b"40099"]
    assert (PORT_RANGE.read_bytes(), 0) == before


def test_sysctl_refuses_what_is_not_private() -> None:
    with pytest.raises(ValueError, match="is not a sysctl of a network namespace"):
        lab.play(scenario(lambda stage: stage.sysctl("kernel.hostname", "x")), look)


def test_sysctl_reports_a_bad_value() -> None:
    build = scenario(lambda stage: stage.sysctl("net.ipv4.tcp_tw_reuse", "many"))
    with pytest.raises(OSError, match="Invalid argument"):
        lab.play(build, look)


def test_a_refusal_has_a_reason_and_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(kernel, "unshare", refuse)
    with pytest.raises(SourceRefused, match="refuses a private network namespace") as caught:
        lab.play(scenario(two_programs), look)
    assert "user.max_user_namespaces" in caught.value.next_step


def unprivileged(name: str) -> Seen | BaseException:
    """Play a scenario as nobody, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            scenario = lab.find(name)
            assert scenario is not None
            result: object = lab.start(scenario, look, settle=0).result(timeout=30)
        except BaseException as error:
            result = error
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read()
    os.waitpid(child, 0)
    answer: Seen | BaseException = pickle.loads(message)
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run without privileges already")
@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("close-wait-leak", {"LISTEN": 1, "CLOSE_WAIT": 5}),
        ("bucket-overflow", {"LISTEN": 1, "TIME_WAIT": 20}),
        ("fd-limit", {"LISTEN": 1, "CLOSE_WAIT": 52}),
        ("fin-unanswered", {"FIN_WAIT1": 6}),
    ],
)
def test_without_privileges(name: str, states: dict[str, int]) -> None:
    seen = unprivileged(name)
    if isinstance(seen, SourceRefused):
        pytest.skip(f"{seen.what}; {seen.next_step}")
    assert not isinstance(seen, BaseException), seen
    assert seen.states() == states
    held = {f"socket:[{row.inode}]" for row in seen.of("CLOSE_WAIT")}
    assert held <= set(seen.processes[0].descriptors)
    assert not alive(seen.pids())
