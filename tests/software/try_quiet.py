"""Nothing loud where nothing is wrong: healthy servers under load, looked at all the while.

Every look is also compared with the one before, as `check --state` does.  A notice may be told; a
warning is a failure.  TWDIAG_LONG=1 lets the steady load last for three minutes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.software.stage import HERE, Backend, Stage, ask, closed_after, program, request
from tests.software.try_apache import apache
from tests.software.try_gunicorn import gunicorn
from tests.software.try_haproxy import haproxy
from tests.software.try_nginx import ADVISED, nginx
from tests.software.try_redis import redis
from twdiag.engine.look import Question, examined
from twdiag.model.findings import Severity
from twdiag.sources import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.snapshot import Snapshot

ANSWERS: Final = ' server { listen 8080 backlog=511; return 200 "ok"; }'
STEADY_SECONDS: Final = 180 if os.environ.get("TWDIAG_LONG") else 15


class _Looks:
    """Looks at this namespace, each compared with the one before."""

    def __init__(self) -> None:
        self.number = 0
        self.loud: list[str] = []
        self.notices: set[str] = set()
        self._before: Snapshot | None = None

    def look(self) -> None:
        """Look once, and note what is told."""
        report, view = examined(collect(), Question(causes=False), self._before)
        self._before = view.snapshot
        self.number += 1
        for finding in report.findings:
            if finding.severity > Severity.NOTICE:
                self.loud.append(f"{finding.severity.label} {finding.rule}: {finding.summary}")
            else:
                self.notices.add(finding.rule)

    def look_while(self, goes_on: Callable[[], bool], every: float = 0.5) -> None:
        """Look again and again for as long as something goes on, and once after it."""
        while goes_on():
            self.look()
            time.sleep(every)
        self.look()

    def look_for(self, seconds: float) -> None:
        """Look again and again for some time."""
        until = time.monotonic() + seconds
        self.look_while(lambda: time.monotonic() < until)

    def said(self, what: str) -> str:
        """Return that nothing loud was told; raises AssertionError where something was."""
        assert not self.loud, self.loud[0]
        told = ", ".join(sorted(self.notices)) or "nothing"
        return f"{what}: {self.number} looks, nothing loud; notices: {told}"


def _ab(*words: str) -> subprocess.Popen[bytes]:
    """Start a load on port 8080."""
    path = program("ab", "apache2-utils")
    url = f"http://{HERE}:8080/index.html"
    return subprocess.Popen(
        [path, "-q", *words, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _under_load(looks: _Looks, *words: str) -> None:
    load = _ab(*words)
    looks.look_while(lambda: load.poll() is None)
    assert load.returncode == 0, f"ab ended with {load.returncode}"


def try_nginx_keep_alive(stage: Stage) -> str:
    looks = _Looks()
    nginx(stage, ADVISED + ANSWERS)
    _under_load(looks, "-k", "-c", "50", "-t", "6", "-n", "10000000")
    return looks.said("nginx, 50 keep-alive connections under load")


def try_apache_keep_alive(stage: Stage) -> str:
    looks = _Looks()
    apache(stage, "KeepAlive On\nKeepAliveTimeout 5\n")
    _under_load(looks, "-k", "-c", "20", "-t", "5", "-n", "10000000")
    return looks.said("apache, 20 keep-alive connections under load")


def try_haproxy_reuse(stage: Stage) -> str:
    looks = _Looks()
    Backend(9001)
    rest = f"listen all\n    bind :8080\n    http-reuse always\n    server a {HERE}:9001\n"
    haproxy(stage, rest)
    _under_load(looks, "-k", "-c", "20", "-t", "5", "-n", "10000000")
    looks.look_for(2)
    return looks.said("haproxy, http-reuse always, under load and after it")


def try_nginx_reload(stage: Stage) -> str:
    looks = _Looks()
    nginx(stage, ADVISED + ANSWERS)
    load = _ab("-r", "-k", "-c", "30", "-t", "6", "-n", "10000000")
    master = int((stage.folder / "pid").read_text())
    for _ in range(3):
        looks.look_for(1)
        os.kill(master, signal.SIGHUP)
    looks.look_while(lambda: load.poll() is None)
    return looks.said("nginx, reloaded three times under load")


def try_a_finished_burst(stage: Stage) -> str:
    looks = _Looks()
    nginx(stage, ANSWERS)
    _under_load(looks, "-c", "20", "-n", "3000")
    looks.look_for(8)
    return looks.said("nginx, a burst of 3,000 connections and 8 s after it")


def try_a_steady_load(stage: Stage) -> str:
    looks = _Looks()
    nginx(stage, ANSWERS)
    until, made = time.monotonic() + STEADY_SECONDS, 0

    def load() -> None:
        nonlocal made
        began = time.monotonic()
        while time.monotonic() < until:
            with ask(8080, headers="Connection: close\r\n") as client:
                closed_after(client, 3)
            made += 1
            time.sleep(max(0.0, began + made / 50 - time.monotonic()))

    worker = threading.Thread(target=load, daemon=True)
    worker.start()
    looks.look_while(worker.is_alive, 1.0)
    assert made > 30 * STEADY_SECONDS, made
    return looks.said(f"nginx, 50 connections a second for {STEADY_SECONDS} s")


def _probe(seconds: float, looks: _Looks) -> None:
    """Ask as a kubelet does: a new connection for each probe, closed by the server."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(10):
            with ask(8080, headers="Connection: close\r\n") as client:
                closed_after(client, 3)
        looks.look()
        time.sleep(0.5)


def try_liveness_probes_of_nginx(stage: Stage) -> str:
    looks = _Looks()
    nginx(stage, ADVISED + ANSWERS)
    _probe(6, looks)
    return looks.said("nginx, liveness probes")


def try_liveness_probes_of_gunicorn(stage: Stage) -> str:
    looks = _Looks()
    gunicorn(stage, "-w", "2")
    _probe(5, looks)
    return looks.said("gunicorn, liveness probes")


def try_node_keep_alive(stage: Stage) -> str:
    looks = _Looks()
    path = program("node", "nodejs")
    text = "require('http').createServer((_, a) => a.end('ok')).listen(8080, '127.0.0.1')\n"
    stage.start(path, stage.file("server.js", text), port=8080)
    _under_load(looks, "-k", "-c", "20", "-t", "4", "-n", "10000000")
    _probe(3, looks)
    return looks.said("node, 20 keep-alive connections under load, then liveness probes")


def try_java_keep_alive(stage: Stage) -> str:
    looks = _Looks()
    path = program("java", "default-jdk-headless")
    text = """
    import com.sun.net.httpserver.HttpServer;
    import java.net.InetSocketAddress;
    class Health {
        public static void main(String[] words) throws Exception {
            var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 8080), 50);
            server.createContext("/", exchange -> {
                exchange.sendResponseHeaders(200, 2);
                exchange.getResponseBody().write("ok".getBytes());
                exchange.close();
            });
            server.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(8));
            server.start();
        }
    }
    """
    stage.start(path, stage.file("Health.java", text), port=8080, seconds=40)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((HERE, 8080))) for _ in range(20)]
        until = time.monotonic() + 4
        while time.monotonic() < until:
            for client in clients:
                request(client)
            looks.look()
    return looks.said("java (jdk.httpserver), 20 keep-alive connections")


def try_a_redis_pool(stage: Stage) -> str:
    looks = _Looks()
    redis(stage)
    with ExitStack() as stack:
        pool = [stack.enter_context(socket.create_connection((HERE, 6379))) for _ in range(50)]
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for client in pool:
                client.sendall(b"PING\r\n")
                assert client.recv(64) == b"+PONG\r\n"
            looks.look()
            time.sleep(0.2)
    return looks.said("redis, a pool of 50 connections in use")


def try_idle_database_connections(stage: Stage) -> str:
    looks = _Looks()
    redis(stage)
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection((HERE, 6379)))
        looks.look_for(13)
    return looks.said("redis, 500 idle connections")
