"""PostgreSQL: idle_session_timeout closes first."""

from __future__ import annotations

import os
import socket
import struct
import subprocess

from tests.software.stage import (
    HERE,
    Skipped,
    Stage,
    closed_after,
    count,
    eventually,
    program,
)


def session(port: int, user: str, database: str) -> socket.socket:
    """Open a session by the protocol, version 3.0; the server trusts every user."""
    client = socket.create_connection((HERE, port), timeout=10)
    words = f"user\0{user}\0database\0{database}\0\0".encode()
    client.sendall(struct.pack("!ii", len(words) + 8, 196608) + words)
    answer = b""
    while b"Z\0\0\0\5I" not in answer:
        part = client.recv(65536)
        assert part, answer
        answer += part
    return client


def try_idle_sessions(stage: Stage) -> str:
    initdb = program("initdb", "postgresql")
    postgres = program("postgres", "postgresql")
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        setpriv = program("setpriv", "util-linux")
        as_user = (setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups")
    data = str(stage.folder / "data")
    words = (*as_user, initdb, "-D", data, "-A", "trust", "-U", "me", "-N", "--locale=C")
    done = subprocess.run(words, capture_output=True, text=True, cwd=stage.folder)
    if done.returncode:
        raise Skipped(f"initdb: {done.stderr.strip().splitlines()[-1:]}")
    options = ("-p", "5433", "-k", str(stage.folder), "-c", "idle_session_timeout=2s")
    stage.start(*as_user, postgres, "-D", data, *options, port=5433, seconds=30)
    with session(5433, "me", "postgres") as client:
        idle = closed_after(client, 6)
    assert 1 < idle < 5, idle
    assert eventually(lambda: count("TIME_WAIT", 5433) == 1)
    return f"idle_session_timeout 2s: it closes first after {idle:.1f} s"
