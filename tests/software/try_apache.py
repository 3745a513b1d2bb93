"""Apache httpd: its idle timeout, and what a full accept queue wants."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.software.diagnosis import diagnose, give_up, never_stuck, of_rule
from tests.software.stage import (
    HERE,
    Backend,
    Stage,
    ask,
    closed_after,
    count,
    eventually,
    program,
    queued,
    request,
    watched_pool,
)

CONFIG = """
ServerRoot {folder}
PidFile {folder}/pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
ServerName here
Listen 8080
User nobody
Group nogroup
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
DocumentRoot {folder}/pages
{more}
"""
WORKERS = """
ListenBackLog {backlog}
StartServers 1
ServerLimit {processes}
ThreadsPerChild 2
ThreadLimit 2
MinSpareThreads 2
MaxSpareThreads 4
MaxRequestWorkers {workers}
"""

EVENT = """
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
StartServers 1
ServerLimit 4
ThreadsPerChild 16
MaxRequestWorkers 64
Timeout {timeout}
GracefulShutdownTimeout 1
ProxyPass /app http://127.0.0.1:9001/
"""

PREFORK = """
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule cgi_module {modules}/mod_cgi.so
LoadModule alias_module {modules}/mod_alias.so
StartServers 4
ServerLimit 4
MaxRequestWorkers 4
ListenBackLog {backlog}
ProxyPass /app http://127.0.0.1:9001/
ScriptAlias /report {folder}/report
<Directory {folder}>
Require all granted
</Directory>
"""


def apache(stage: Stage, more: str, mpm: str = "event") -> None:
    """Start httpd on 8080 with some more directives."""
    path = program("apache2", "apache2-bin")
    (stage.folder / "pages").mkdir(exist_ok=True)
    stage.file("pages/index.html", "ok")
    modules = Path(path).parents[1] / "lib/apache2/modules"
    text = CONFIG.replace("{more}", more)
    text = text.format(folder=stage.folder, modules=modules, mpm=mpm)
    config = stage.file("apache.conf", text)
    stage.start(path, "-X" if not more else "-DFOREGROUND", "-f", config, port=8080)


def try_the_idle_timeout_as_shipped(stage: Stage) -> str:
    apache(stage, "KeepAlive On")
    with ask(8080, path="/index.html") as client:
        idle = closed_after(client, 12)
    assert 4 < idle < 9, idle
    assert eventually(lambda: count("TIME_WAIT", 8080) == 1)
    return f"without KeepAliveTimeout httpd closes first, after {idle:.1f} s"


def try_the_keep_alive_race(stage: Stage) -> str:
    apache(stage, "KeepAliveTimeout 2")
    finding, lost = watched_pool(8080, pauses=(1.2, 3.5), seconds=16, path="/index.html")
    timeout = finding.evidence["idle_timeout_seconds"]
    assert isinstance(timeout, float)
    assert 1.9 < timeout < 3.3, timeout
    assert finding.evidence["lost_requests"] == lost > 0, (finding.summary, lost)
    assert "KeepAliveTimeout" in finding.advice[0].how, finding.advice
    return f"KeepAliveTimeout 2 measured as {timeout:.2f} s; {lost} requests of a pool lost"


def _waiting(stage: Stage, backlog: int, workers: int, clients: int = 10) -> tuple[int, str]:
    """Return how many of some slow clients wait in the accept queue, and the error log."""
    apache(stage, WORKERS.format(backlog=backlog, workers=workers, processes=max(1, workers // 2)))
    with ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(socket.create_connection((HERE, 8080)))
            client.sendall(b"GET / HTTP/1.1\r\nHost: he")  # a worker waits for the rest
            time.sleep(0.1)
        time.sleep(3)
        return queued(8080), (stage.folder / "error.log").read_text()


def try_a_longer_backlog_serves_nobody(stage: Stage) -> str:
    waiting, log = _waiting(stage, backlog=4096, workers=2)
    assert waiting >= 5, (waiting, log)
    assert "MaxRequestWorkers" in log, log
    number = log[log.index("AH00", log.index("MaxRequestWorkers") - 40) :][:7]
    return f"2 workers, ListenBackLog 4096: {waiting} of 10 clients wait; the log says {number}"


def try_more_workers_do(stage: Stage) -> str:
    waiting, log = _waiting(stage, backlog=511, workers=12)
    assert waiting == 0, (waiting, log)
    return "MaxRequestWorkers 12: none of 10 clients waits"


def _prefork(stage: Stage, report: str, backlog: int = 511) -> None:
    """Start four processes, whose requests ask a backend on 9001 or run a script."""
    stage.file("report", report)
    apache(stage, PREFORK.replace("{backlog}", str(backlog)), "prefork")


def try_prefork_workers_that_wait_for_a_backend(stage: Stage) -> str:
    Backend(9001, answers=False)
    _prefork(stage, "")
    give_up(8080, 12, "/app")
    said = of_rule(diagnose(), "close-wait-never-accepted")
    expected = "all 4 workers wait for the upstream 127.0.0.1:9001: nobody calls accept()"
    assert said.why == expected, said
    assert f"-p {said.pids[0]} " not in said.now, said  # a master waits for its workers
    assert "gdb -p " in said.now, said
    return f"prefork, a silent backend: {said.why}"


def try_prefork_workers_that_wait_for_a_script(stage: Stage) -> str:
    _prefork(stage, "#!/bin/sh\nexec sleep 60\n")
    give_up(8080, 12, "/report")
    said = of_rule(diagnose(), "close-wait-never-accepted")
    assert said.why.startswith("all 4 workers wait for a child process each, pid "), said
    assert said.why.endswith(" and 3 more: nobody calls accept()"), said
    assert said.now.startswith("ps -o "), said
    child = Path(f"/proc/{said.now.split()[-1]}/comm").read_text()
    assert child == "sleep\n", child
    return f"prefork, a CGI script that hangs: {said.why}; {said.now}"


def _old_child(stage: Stage, timeout: int) -> None:
    """Let 10 clients give up on a silent backend, and restart gracefully."""
    Backend(9001, answers=False)
    apache(stage, EVENT.replace("{timeout}", str(timeout)))
    give_up(8080, 10, "/app")
    os.kill(int((stage.folder / "pid").read_text()), signal.SIGUSR1)
    assert eventually(lambda: b"resuming" in (stage.folder / "error.log").read_bytes()[-300:])


def try_an_old_child_after_a_graceful_restart(stage: Stage) -> str:
    _old_child(stage, 600)
    assert eventually(lambda: "old worker" in of_rule(diagnose(), "close-wait-unread").why)
    said = of_rule(diagnose(), "close-wait-unread")
    (old,) = said.pids
    assert said.advice[0] == f"End the old worker apache2 (kill {old})", said
    assert "GracefulShutdownTimeout applies to a graceful stop only" in said.advice[1], said
    # Its threads wait for the backend, and it has begun to wait for them: it heeds no SIGTERM.
    assert f"kill -KILL {old} if it ignores that" in said.how[0], said
    os.kill(old, signal.SIGTERM)
    heeded = eventually(lambda: count("CLOSE_WAIT", 8080) == 0, 3)
    os.kill(old, signal.SIGTERM if heeded else signal.SIGKILL)
    assert eventually(lambda: count("CLOSE_WAIT", 8080) == 0)
    with ask(8080, path="/index.html") as client:
        answer = request(client, path="/index.html")
    assert answer.startswith("HTTP/1.1 "), answer  # whichever page: the new child serves
    sign = "kill" if heeded else "kill -KILL"
    return f"10 connections of a child from before; {sign} {old} frees them: {said.why}"


def try_the_timeout_ends_what_an_old_child_has(stage: Stage) -> str:
    _old_child(stage, 15)
    assert count("CLOSE_WAIT", 8080) > 0
    assert eventually(lambda: count("CLOSE_WAIT", 8080) == 0, 20)
    return "Timeout 15 ends the connections of an old child"


def try_busy_prefork_workers_are_not_stuck(stage: Stage) -> str:
    Backend(9001, seconds=0.02)
    _prefork(stage, "", backlog=4)
    looks = never_stuck(8080, 16, "/app")
    return f"prefork, 16 clients, a backlog of 4: {looks} looks, none says stuck"
