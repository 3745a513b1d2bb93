"""HAProxy: clients that gave up, idle server connections, and what `source` costs."""

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
    listens,
    program,
    request,
    sysctl,
    watched_pool,
)
from twdiag.sources.live.processes.descriptors import descriptors

CONFIG = """
global
    {globals}
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    {defaults}
{rest}
"""


def haproxy(
    stage: Stage,
    rest: str,
    defaults: str = "",
    globals: str = "maxconn 200",
    replaces: int | None = None,
) -> int:
    """Start HAProxy, which listens on 8080, in the place of another one; return its pid."""
    path = program("haproxy", "haproxy")
    text = CONFIG.format(globals=globals, defaults=defaults, rest=rest)
    words = ("-sf", str(replaces)) if replaces else ()
    return stage.start(path, "-db", "-f", stage.file("haproxy.cfg", text), *words, port=8080).pid


def _given_up(stage: Stage, defaults: str) -> int:
    """Return how many CLOSE_WAITs stay of 10 clients that gave up on a slow server."""
    backend = Backend(9001, answers=False)
    haproxy(stage, f"listen all\n    bind :8080\n    server a {HERE}:9001\n", defaults)
    for _ in range(10):
        with socket.create_connection((HERE, 8080)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            time.sleep(0.05)
    assert eventually(lambda: len(backend.requests) == 10)
    time.sleep(3)
    return count("CLOSE_WAIT", 8080)


def try_client_fin_does_not_help(stage: Stage) -> str:
    left = _given_up(stage, "timeout client-fin 1s\n    no option abortonclose")
    assert left == 10, left
    return "timeout client-fin 1s: 10 of 10 clients that gave up stay in CLOSE_WAIT"


def try_abortonclose_does(stage: Stage) -> str:
    left = _given_up(stage, "option abortonclose")
    assert left == 0, left
    return "option abortonclose: none of 10 stays"


def try_the_keep_alive_race(stage: Stage) -> str:
    Backend(9001)
    rest = f"listen all\n    bind :8080\n    server a {HERE}:9001\n"
    haproxy(stage, rest, "timeout http-keep-alive 2s")
    finding, lost = watched_pool(8080, pauses=(1.2, 2.5), seconds=11)
    timeout = finding.evidence["idle_timeout_seconds"]
    assert isinstance(timeout, float)
    assert 1.9 < timeout < 2.3, timeout
    assert finding.evidence["lost_requests"] == lost > 0, (finding.summary, lost)
    assert "timeout http-keep-alive" in finding.advice[0].how, finding.advice
    return f"timeout http-keep-alive 2s measured as {timeout:.2f} s; {lost} requests of a pool lost"


def try_what_http_server_close_asks_for(stage: Stage) -> str:
    backend = Backend(9001)
    rest = f"listen all\n    bind :8080\n    server a {HERE}:9001\n"
    haproxy(stage, rest, "option http-server-close")
    ask(8080).close()
    assert "connection: close" in backend.requests[0].lower(), backend.requests
    return "option http-server-close asks the server to close, which so closes first"


def _kept(stage: Stage, clients: int) -> int:
    """Return how many server connections are kept for reuse beside some idle clients."""
    Backend(9001)
    haproxy(
        stage,
        f"listen all\n    bind :8080\n    http-reuse always\n    server a {HERE}:9001\n",
        globals="maxconn 60",
    )
    with ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(socket.create_connection((HERE, 8080)))
        with ask(8080) as client:
            request(client)
        time.sleep(0.5)
        return count("ESTABLISHED", 9001, remote=True)


def try_every_descriptor_counts_for_the_pool(stage: Stage) -> str:
    kept = _kept(stage, clients=50)
    assert kept == 0, kept
    return "50 idle clients of maxconn 60: no server connection is kept, though none was idle"


def try_the_pool_with_few_clients(stage: Stage) -> str:
    kept = _kept(stage, clients=0)
    assert kept == 1, kept
    return "without them it is kept"


def try_source_costs_no_port(stage: Stage) -> str:
    backends = [Backend(9001, answers=False), Backend(9002, answers=False)]
    rest = "".join(
        f"listen l{n}\n    bind :808{n}\n    source 127.0.0.2\n    server a {HERE}:900{n + 1}\n"
        for n in (0, 1)
    )
    haproxy(stage, rest)
    sysctl("net.ipv4.ip_local_port_range", "40000 40009")
    with ExitStack() as stack:
        for n in range(16):
            client = stack.enter_context(socket.create_connection((HERE, 8080 + n % 2)))
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert eventually(lambda: sum(len(b.requests) for b in backends) == 16), [
            len(b.requests) for b in backends
        ]
    return "source with an address: 16 connections to two servers from 10 ports"


def try_clients_that_gave_up_are_told_as_configuration(stage: Stage) -> str:
    Backend(9001, answers=False)
    rest = f"listen all\n    bind :8080\n    server a {HERE}:9001\n"
    haproxy(stage, rest, "no option abortonclose")
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-unread")
    assert said.why == (
        "HAProxy keeps clients that gave up until its server answers, unless option abortonclose "
        "is set: it is not stuck"
    ), said
    assert "option abortonclose" in said.advice[0], said
    assert said.now == f"ss -tnp state established | grep pid={said.pids[0]},", said
    return f"10 clients that gave up: {said.why}"


def try_an_old_process_after_a_reload(stage: Stage) -> str:
    Backend(9001, answers=False)
    rest = f"listen all\n    bind :8080\n    server a {HERE}:9001\n"
    old = haproxy(stage, rest, "no option abortonclose")
    give_up(8080, 10)
    haproxy(stage, rest, "no option abortonclose", replaces=old)
    assert eventually(lambda: len(_listening(old)) == 0), _listening(old)
    said = of_rule(diagnose(), "close-wait-unread")
    assert "an old worker: haproxy (pid " in said.why, said
    assert said.advice[0] == f"End the old worker haproxy (kill {old})", said
    assert "hard-stop-after" in said.advice[1], said
    os.kill(old, signal.SIGTERM)
    assert eventually(lambda: count("CLOSE_WAIT", 8080) == 0)
    assert listens(8080)
    return f"10 connections of a process from before a reload; kill {old} frees them: {said.why}"


def try_the_time_limit_of_an_old_process(stage: Stage) -> str:
    Backend(9001, answers=False)
    rest = f"listen all\n    bind :8080\n    server a {HERE}:9001\n"
    old = haproxy(stage, rest, globals="hard-stop-after 1s")
    with socket.create_connection((HERE, 8080)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert eventually(lambda: count("ESTABLISHED", 9001, remote=True) == 1)
        haproxy(stage, rest, replaces=old)
        ended = closed_after(client, 10)
    assert 0.5 < ended < 6, ended
    return f"hard-stop-after 1s ends what the old process still has, after {ended:.1f} s"


def _listening(pid: int) -> list[int]:
    """Return the listeners that a process still has."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own = {d.inode for d in descriptors(pid)}
    return [int(row[9]) for row in rows if row[3] == "0A" and int(row[9]) in own]


def try_a_busy_proxy_is_not_stuck(stage: Stage) -> str:
    Backend(9001, seconds=0.02)
    haproxy(stage, f"listen all\n    bind :8080\n    server a {HERE}:9001\n")
    looks = never_stuck(8080, 16)
    return f"a slow server and 16 clients: {looks} looks, none says stuck"
