"""What a process with idle connections waits for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from twdiag import lab, rules
from twdiag.engine.look import Question, look_closely
from twdiag.errors import SourceRefused
from twdiag.lab.actors import in_thread, stop_listening
from twdiag.lab.scenarios.workers import close_all_but, serve, wait_for_threads
from twdiag.tcp import State

if TYPE_CHECKING:
    from tests.conftest import Played
    from twdiag.lab import Stage
    from twdiag.lab.actors import Sockets
    from twdiag.model.findings import Report

CLIENTS = 6


def test_an_idle_leak_says_who_watches_its_connections(played: dict[str, Played]) -> None:
    (finding,) = played["idle-established-leak"].told.findings
    assert finding.rule == "idle-established-leak"
    assert any("nobody watches" in line for line in finding.waits)
    assert finding.steps


def test_a_loop_in_select_says_that_it_cannot_watch_large_descriptors(
    played: dict[str, Played],
) -> None:
    (finding,) = played["select-limit"].told.findings
    first = finding.waits[0]
    assert first.startswith("nobody watches any of 8 sockets: forgotten by the program; select() ")
    assert "cannot watch descriptors from 1,024 on: 1,0" in first
    assert [advice.do for advice in finding.advice[:2]] == [
        "Let the program wait by poll() or epoll",
        "Find where the program stops watching a connection without closing it",
    ]


def test_a_loop_that_forgot_some_sockets_is_not_told_to_be_stuck(
    played: dict[str, Played],
) -> None:
    (finding,) = played["epoll-forgot"].told.findings
    assert "select()" not in finding.waits[0]
    assert finding.advice[0].do.startswith("Find where the program stops watching")
    assert "stack dump" not in finding.advice[0].how
    (stuck,) = played["stuck-on-upstream"].told.findings
    assert stuck.advice[0].do == "See why the upstream does not answer: postgres at 127.0.0.1:5432"


def test_an_old_worker_is_told_from_those_that_listen(played: dict[str, Played]) -> None:
    (finding,) = played["old-worker"].told.findings
    assert re.search(
        r"; an old worker: server \(pid \d+\) listens on port 8080 now$", finding.waits[0]
    )
    (leak,) = played["close-wait-leak"].told.findings
    assert not any("old worker" in line for line in leak.waits)
    assert not any("old worker" in advice.do for advice in leak.advice)


def test_an_old_worker_is_to_end_and_not_its_service(played: dict[str, Played]) -> None:
    play = played["old-worker"]
    (finding,) = play.told.findings
    (old,) = finding.pids
    assert finding.advice[0].do == f"End the old worker server (kill {old})"
    assert not any("restart" in advice.do for advice in finding.advice)
    assert re.fullmatch(rf"ps -o pid,ppid,user,etime,args -p {old},\d+", finding.steps[0].run)
    assert all(step.effect == "none: it only reads" for step in finding.steps)


def test_a_helper_that_inherited_sockets_is_to_end_and_its_parent_to_be_mended(
    played: dict[str, Played],
) -> None:
    play = played["inherited"]
    (finding,) = play.told.findings
    helper, server = play.notes["helper"], play.pids["server"]
    end, mend = finding.advice
    assert end.do == f"End or restart the helper sleep (kill {helper})"
    assert mend.do == f"Let server (pid {server}) open its sockets with close-on-exec set"
    assert finding.steps[0].run == f"ps -o pid,ppid,user,etime,args -p {helper},{server}"
    assert all(step.effect == "none: it only reads" for step in finding.steps)
    assert "stuck" not in finding.why


def test_nobody_asks_what_a_process_does_that_closed_its_sockets(
    played: dict[str, Played],
) -> None:
    findings = played["orphan-fin-wait2"].told.findings
    (orphans,) = (finding for finding in findings if finding.rule == "peer-never-closes")
    assert orphans.evidence["held"] == 0
    assert orphans.pids, "the listener's process is named, and not asked"
    assert (orphans.waits, orphans.steps) == ((), ())


def test_clients_of_a_server_that_has_stopped_listening_are_no_upstream() -> None:
    try:
        report = lab.play(lab.Scenario("draining", "", "", draining, settle=1.2), diagnosed)
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")
    (finding,) = (f for f in report.findings if f.rule == "close-wait-unread")
    assert finding.waits[0].endswith("clients that send nothing: nobody reads these sockets")
    assert not any("upstream" in advice.do for advice in finding.advice)


def draining(stage: Stage) -> None:
    """Let a server close its listener, and its threads wait for one half of its clients."""
    server, client = serve(stage, 2 * CLIENTS)
    server.do(stop_listening)
    server.do(wait_for_clients, CLIENTS)
    client.do(close_all_but, CLIENTS, last_words=b"x" * 100)
    stage.wait_for({State.CLOSE_WAIT: CLIENTS})
    wait_for_threads(stage, "server", CLIENTS + 1)


def wait_for_clients(sockets: Sockets, count: int) -> None:
    for connection in sockets.connected[:count]:
        in_thread(connection.recv, 1)


def diagnosed(_: Stage) -> Report:
    limits = rules.DEFAULTS.replaced({"close-wait-age": 1}, "test")
    return look_closely(Question(limits=limits))[0]
