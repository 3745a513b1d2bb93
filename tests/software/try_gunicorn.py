"""Gunicorn: which worker keeps connections, and for how long."""

from __future__ import annotations

from tests.software.diagnosis import DATABASE, diagnose, give_up, never_stuck, of_rule
from tests.software.stage import (
    Backend,
    Stage,
    ask,
    backlog,
    closed_after,
    count,
    eventually,
    program,
    request,
    watched_pool,
)

APP = """
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

ASKS_A_DATABASE = """
import socket

def app(environ, start):
    with socket.create_connection(("127.0.0.1", 5432)) as database:
        database.sendall(b"select 1\\r\\n\\r\\n")
        database.recv(1)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def gunicorn(stage: Stage, *words: str, app: str = APP) -> None:
    """Start Gunicorn on 8080."""
    path = program("gunicorn", "gunicorn")
    stage.file("app.py", app)
    stage.start(path, "--chdir", str(stage.folder), "-b", ":8080", *words, "app:app", port=8080)


def try_the_worker_as_shipped(stage: Stage) -> str:
    gunicorn(stage)
    assert backlog(8080) == 2048
    for _ in range(10):
        with ask(8080) as client:
            closed_after(client, 3)
    assert eventually(lambda: count("TIME_WAIT", 8080) == 10)
    return "sync closes first after every response; backlog 2048"


def try_threads_alone_keep_connections(stage: Stage) -> str:
    gunicorn(stage, "--threads", "2")
    with ask(8080) as client:
        assert "200" in request(client)
        idle = closed_after(client, 8)
    assert 1.5 < idle < 5, idle
    return f"--threads 2 alone: connections are kept, and closed after {idle:.1f} s (keepalive 2)"


def try_workers_stuck_in_a_database_call(stage: Stage) -> str:
    Backend(DATABASE, answers=False)
    gunicorn(stage, "--workers", "2", app=ASKS_A_DATABASE)
    give_up(8080, 8)
    said = of_rule(diagnose(), "close-wait-never-accepted")
    assert said.why == (
        "all 2 workers wait for the upstream 127.0.0.1:5432 (postgres): nobody calls accept()"
    ), said
    master, *workers = said.pids
    assert said.now in {f"py-spy dump --pid {worker}" for worker in workers}, said
    return f"a stuck database: {said.why}; {said.now}, a worker and not {master}, the master"


def try_busy_workers_are_not_stuck(stage: Stage) -> str:
    Backend(DATABASE, seconds=0.02)
    gunicorn(stage, "--workers", "2", "--backlog", "4", app=ASKS_A_DATABASE)
    looks = never_stuck(8080, 16)
    return f"a slow database, 16 clients, a backlog of 4: {looks} looks, none says stuck"


def try_the_keep_alive_race(stage: Stage) -> str:
    gunicorn(stage, "--threads", "4")
    finding, lost = watched_pool(8080, pauses=(1.3, 4.5), seconds=22)
    timeout = finding.evidence["idle_timeout_seconds"]
    assert isinstance(timeout, float)
    assert 1.95 < timeout < 3.5, timeout  # its threads look once a second
    assert finding.evidence["lost_requests"] == lost > 0, (finding.summary, lost)
    return f"keepalive 2 measured as {timeout:.1f} s; {lost} requests of a pool lost"
