"""nginx: who asks for the close, what its proxy says to an upstream, what proxy_bind costs."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from tests.software.diagnosis import Said, diagnose, give_up, never_stuck, of_rule
from tests.software.stage import (
    HERE,
    Backend,
    Stage,
    ask,
    closed_after,
    count,
    eventually,
    program,
    request,
    sysctl,
    watched_pool,
)
from twdiag.engine.look import Question, looked
from twdiag.rules import keep_alive_race

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.findings import Finding

CONFIG = """
user root;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    scgi_temp_path {folder}/s; uwsgi_temp_path {folder}/u;
    {http}
}}
"""
ADVISED = "keepalive_timeout 120s; keepalive_requests 10000; keepalive_time 4h;"


def nginx(stage: Stage, http: str, main: str = "") -> None:
    """Start nginx with what stands in its http block, and before; it listens on 8080."""
    path = program("nginx", "nginx-light")
    config = stage.file("nginx.conf", main + CONFIG.format(folder=stage.folder, http=http))
    stage.start(path, "-e", "stderr", "-c", config, port=8080)


def try_the_client_asks_for_the_close(stage: Stage) -> str:
    nginx(stage, ADVISED + ' server { listen 8080; return 200 "ok"; }')
    for _ in range(50):
        for version, headers in (("1.0", ""), ("1.1", "Connection: close\r\n")):
            with ask(8080, version, headers) as client:
                closed_after(client, 3)
    assert eventually(lambda: count("TIME_WAIT", 8080) == 100)
    with ask(8080) as client:
        for _ in range(50):
            assert "200" in request(client)
    assert count("TIME_WAIT", 8080) == 100
    return "HTTP/1.0 and Connection: close leave a TIME_WAIT each, with every keepalive setting"


def try_an_idle_connection(stage: Stage) -> str:
    nginx(stage, 'keepalive_timeout 2s; server { listen 8080; return 200 "ok"; }')
    with ask(8080) as client:
        idle = closed_after(client, 6)
    assert 1.5 < idle < 4, idle
    assert eventually(lambda: count("TIME_WAIT", 8080) == 1)
    return f"keepalive_timeout 2s: nginx closes first, after {idle:.1f} s"


def try_the_keep_alive_race(stage: Stage) -> str:
    nginx(stage, 'keepalive_timeout 2s; server { listen 8080; return 200 "ok"; }')
    finding, lost = watched_pool(8080, pauses=(1.2, 2.3), seconds=11)
    timeout = finding.evidence["idle_timeout_seconds"]
    # An announcement comes when the FIN is acknowledged, which may take 40 ms.
    assert isinstance(timeout, float)
    assert 1.95 < timeout < 2.3, timeout
    assert finding.evidence["lost_requests"] == lost > 0, (finding.summary, lost)
    assert "nginx's keepalive_timeout" in finding.advice[0].how
    return f"keepalive_timeout 2s measured as {timeout:.2f} s; {lost} requests of a pool lost"


def try_a_pool_in_order(stage: Stage) -> str:
    nginx(stage, 'keepalive_timeout 2s; server { listen 8080; return 200 "ok"; }')
    finding, lost = watched_pool(8080, pauses=(0.8, 2.3), seconds=8, limit=1.0)
    assert (finding, lost) == (None, 0)
    return "a pool whose limit is 1 s behind keepalive_timeout 2s loses nothing, and is quiet"


def try_the_keep_alive_race_over_tls(stage: Stage) -> str:
    nginx(stage, f'keepalive_timeout 2s; server {{ {_tls(stage)} return 200 "ok"; }}')
    findings, lost = _watched_over_tls(_use_after_pauses, 11.0)
    (finding,) = findings
    timeout = finding.evidence["idle_timeout_seconds"]
    assert isinstance(timeout, float)
    assert 1.9 < timeout < 2.3, timeout
    assert finding.evidence["lost_requests"] == lost > 0, (finding.summary, lost)
    return f"over TLS keepalive_timeout 2s is measured as {timeout:.2f} s; {lost} requests lost"


def try_the_last_words_of_tls(stage: Stage) -> str:
    nginx(stage, f'keepalive_timeout 1s; server {{ {_tls(stage)} return 200 "ok"; }}')
    findings, _ = _watched_over_tls(_answer_the_close, 6.0)
    assert not findings, findings[0].summary
    return "a TLS client that answers each close with close_notify has lost no request"


def _tls(stage: Stage) -> str:
    """Return what lets a server of nginx listen with a certificate that nobody has signed."""
    key, certificate = stage.folder / "key.pem", stage.folder / "certificate.pem"
    openssl = (program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes")
    made = ("-keyout", key, "-out", certificate, "-subj", "/CN=here", "-days", "2")
    subprocess.run((*openssl, *made), check=True, capture_output=True)
    return f"listen 8080 ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"


def _watched_over_tls(
    use: Callable[[Callable[[], socket.socket], threading.Event], int], seconds: float
) -> tuple[tuple[Finding, ...], int]:
    """Return what keep-alive-race finds while four clients do something, and what they count."""
    context, stopping = ssl.create_default_context(), threading.Event()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connected() -> socket.socket:
        return context.wrap_socket(socket.create_connection((HERE, 8080), timeout=10))

    with ThreadPoolExecutor(4) as clients:
        counts = [clients.submit(use, connected, stopping) for _ in range(4)]
        threading.Timer(seconds - 1, stopping.set).start()
        report, _ = looked(Question(rules=(keep_alive_race.RULE,), interval=seconds))
        return report.findings, sum(count.result() for count in counts)


def _use_after_pauses(connected: Callable[[], socket.socket], stopping: threading.Event) -> int:
    """Send requests after pauses, without a look at the connection; return how many were lost."""
    lost, client = 0, connected()
    for pause in cycle((1.2, 2.5)):
        with suppress(OSError):
            if "200" in request(client):
                if stopping.wait(pause):
                    break
                continue
        lost += 1
        client.close()
        client = connected()
    client.close()
    return lost


def _answer_the_close(connected: Callable[[], socket.socket], stopping: threading.Event) -> int:
    """Ask once, wait for the server's close and answer it, again and again."""
    while not stopping.is_set():
        with connected() as client:
            request(client)
            with suppress(OSError):
                client.recv(1)
                client.unwrap()  # type: ignore[attr-defined]
    return 0


def try_what_the_proxy_asks_for(stage: Stage) -> str:
    backend = Backend(9001)
    nginx(stage, f"server {{ listen 8080; location / {{ proxy_pass http://{HERE}:9001; }} }}")
    ask(8080).close()
    head = backend.requests[0].lower()
    assert "http/1.0" in head, head
    assert "connection: close" in head, head
    return "proxy_pass as shipped asks the upstream to close (before 1.29.7)"


def try_proxy_bind_costs_no_port(stage: Stage) -> str:
    backends = [Backend(9001, answers=False), Backend(9002, answers=False)]
    servers = "".join(
        f"server {{ listen 808{n}; location / {{ proxy_bind 127.0.0.2; "
        f"proxy_pass http://{HERE}:900{n + 1}; }} }}"
        for n in (0, 1)
    )
    nginx(stage, servers)
    sysctl("net.ipv4.ip_local_port_range", "40000 40009")
    with ExitStack() as stack:
        for n in range(16):
            client = stack.enter_context(socket.create_connection((HERE, 8080 + n % 2)))
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert eventually(lambda: sum(len(b.requests) for b in backends) == 16), [
            len(b.requests) for b in backends
        ]
    return "proxy_bind with an address: 16 connections to two upstreams from 10 ports"


def try_an_event_loop_with_a_slow_upstream_is_not_stuck(stage: Stage) -> str:
    Backend(9001, answers=False)
    keep = "proxy_ignore_client_abort on;"
    nginx(
        stage, f"server {{ listen 8080; location / {{ {keep} proxy_pass http://{HERE}:9001; }} }}"
    )
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-unread")
    assert not said.calls_it_stuck, said
    assert said.waits[-1] == "these 10 sockets are watched or read", said
    return f"a silent upstream, proxy_ignore_client_abort on: {said.why}"


def try_an_old_worker_after_a_reload(stage: Stage) -> str:
    old, said = _old_worker(stage)
    assert said.why.count("an old worker: nginx (pid "), said
    assert said.advice[0] == f"End the old worker nginx (kill {old})", said
    assert "worker_shutdown_timeout" in said.advice[1], said
    assert not any("restart" in text.lower() for text in said.advice), said
    os.kill(old, signal.SIGTERM)
    assert eventually(lambda: count("CLOSE_WAIT", 8080) == 0)
    with ask(8080, path="/ok") as client:
        assert "200" in request(client, path="/ok")
    return f"10 connections of a worker from before a reload; kill {old} frees them: {said.why}"


def try_the_time_limit_of_an_old_worker(stage: Stage) -> str:
    Backend(9001, answers=False)
    nginx(stage, _GIVEN_UP, "worker_shutdown_timeout 1s;")
    with socket.create_connection((HERE, 8080)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert eventually(lambda: count("ESTABLISHED", 9001, remote=True) == 1)
        _reload(stage)
        ended = closed_after(client, 10)
    assert 0.5 < ended < 6, ended
    return f"worker_shutdown_timeout 1s ends what an old worker still has, after {ended:.1f} s"


_GIVEN_UP = (
    "server { listen 8080; location /ok { return 200 'ok'; } "
    f"location / {{ proxy_ignore_client_abort on; proxy_pass http://{HERE}:9001; }} }}"
)


def _reload(stage: Stage) -> None:
    os.kill(int((stage.folder / "pid").read_text()), signal.SIGHUP)


def _old_worker(stage: Stage) -> tuple[int, Said]:
    """Return a worker that a reload has replaced, and what is said of its connections."""
    Backend(9001, answers=False)
    nginx(stage, _GIVEN_UP)
    give_up(8080, 10)
    (old,) = of_rule(diagnose(), "close-wait-unread").pids
    _reload(stage)
    title = Path(f"/proc/{old}/cmdline")
    assert eventually(lambda: b"shutting down" in title.read_bytes()), title.read_bytes()
    return old, of_rule(diagnose(), "close-wait-unread")


def try_a_busy_loop_is_not_stuck(stage: Stage) -> str:
    Backend(9001, seconds=0.02)
    nginx(stage, f"server {{ listen 8080; location / {{ proxy_pass http://{HERE}:9001; }} }}")
    looks = never_stuck(8080, 16)
    return f"a slow upstream and 16 clients: {looks} looks, none says stuck"
