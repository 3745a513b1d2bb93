"""Redis: a client that vanished, the queue, and idle clients."""

from __future__ import annotations

import os
import socket
import subprocess
import time

from tests.software.stage import Skipped, Stage, backlog, count, eventually, program
from twdiag.lab import kernel, network


def redis(stage: Stage, *words: str) -> None:
    """Start Redis on 6379."""
    path = program("redis-server", "redis-server")
    own = ("--port", "6379", "--save", "", "--dir", str(stage.folder), "--protected-mode", "no")
    stage.start(path, *own, *words, port=6379)


def try_a_client_that_vanished(stage: Stage) -> str:
    if os.geteuid() != 0:
        raise Skipped("only root can pull a cable out")
    ip = program("ip", "iproute2")
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    peer = network.connect_peer()
    kernel.setns(home)
    redis(stage, "--tcp-keepalive", "3")
    kernel.setns(peer)
    client = socket.create_connection((network.MAIN_ADDRESS, 6379), timeout=5)
    client.sendall(b"PING\r\n")
    client.recv(100)
    kernel.setns(home)
    assert count("ESTABLISHED", 6379) == 1
    device = next(n for n in os.listdir("/proc/sys/net/ipv4/conf") if n.startswith("cable"))
    subprocess.run([ip, "link", "set", device, "down"], check=True)
    began = time.monotonic()
    assert eventually(lambda: count("ESTABLISHED", 6379) == 0, 15)
    took = time.monotonic() - began
    assert 4.5 < took < 9, took
    return f"tcp-keepalive 3: a client that vanished is closed after {took:.1f} s"


def try_the_queue(stage: Stage) -> str:
    redis(stage)
    assert backlog(6379) == 511
    return "the queue is 511 long"
