"""Squid: its idle timeouts on both sides."""

from __future__ import annotations

from tests.software.stage import (
    HERE,
    Backend,
    Stage,
    ask,
    closed_after,
    count,
    eventually,
    program,
)

CONFIG = """
http_port {here}:8080
http_access allow all
cache deny all
cache_mem 8 MB
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
netdb_filename none
pinger_enable off
shutdown_lifetime 1 second
client_idle_pconn_timeout 2 seconds
server_idle_pconn_timeout 4 seconds
"""


def try_idle_connections(stage: Stage) -> str:
    Backend(9001)
    config = stage.file("squid.conf", CONFIG.format(here=HERE, folder=stage.folder))
    stage.start(program("squid", "squid"), "-N", "-f", config, port=8080, seconds=30)
    with ask(8080, path=f"http://{HERE}:9001/") as client:
        assert count("ESTABLISHED", 9001, remote=True) == 1
        idle = closed_after(client, 6)
    assert 1 < idle < 5, idle
    assert count("TIME_WAIT", 8080) == 1
    assert eventually(lambda: count("ESTABLISHED", 9001, remote=True) == 0, 8)
    return f"client_idle_pconn_timeout 2 s: closes first after {idle:.1f} s; the server's is kept"
