"""Apache httpd: its idle timeout, and what a full accept queue wants."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from tests.software.stage import (
    HERE,
    Stage,
    ask,
    closed_after,
    count,
    eventually,
    program,
    queued,
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
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
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


def apache(stage: Stage, more: str) -> None:
    """Start httpd on 8080 with some more directives."""
    path = program("apache2", "apache2-bin")
    (stage.folder / "pages").mkdir(exist_ok=True)
    stage.file("pages/index.html", "ok")
    config = stage.file("apache.conf", CONFIG.format(folder=stage.folder, more=more))
    stage.start(path, "-X" if not more else "-DFOREGROUND", "-f", config, port=8080)


def try_the_idle_timeout_as_shipped(stage: Stage) -> str:
    apache(stage, "KeepAlive On")
    with ask(8080, path="/index.html") as client:
        idle = closed_after(client, 12)
    assert 4 < idle < 9, idle
    assert eventually(lambda: count("TIME_WAIT", 8080) == 1)
    return f"without KeepAliveTimeout httpd closes first, after {idle:.1f} s"


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
