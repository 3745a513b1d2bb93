"""What a trace costs at many closes a second, and what it loses: `python -m tests.bench.closes`.

Workers end connections in a private network namespace, both ends here, at a rate that is asked for.
With --stop the tracing process is stopped meanwhile for so many seconds.  It says how many ends
there were and were told, what the kernel counted as lost, and what the reader cost.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.engine.privately import in_private
from twdiag.engine.trace import Hooks, TraceRequest, trace

if TYPE_CHECKING:
    from collections.abc import Callable

_WORKERS: Final = 2
_PORT: Final = 7900
_SYSCTLS: Final = {"ip_local_port_range": "1024 65000", "tcp_max_tw_buckets": "2000"}


def end_connections(port: int, rate: float, seconds: float) -> int:
    """End so many connections a second by their server; return how many there were."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        made, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            if made > passed * rate:
                time.sleep(0.002)
                continue
            client = socket.create_connection(("127.0.0.1", port))
            server, _ = listener.accept()
            server.close()
            client.recv(1)
            client.close()
            made += 1
        return made


def measure(source: str, rate: int, seconds: float, stop: float) -> str:
    """Trace while workers end connections; return what was told, lost and spent."""
    for name, value in _SYSCTLS.items():
        Path("/proc/sys/net/ipv4", name).write_text(value)
    reading, writing = os.pipe()
    workers: list[int] = []
    told = 0
    ended = 0.0

    def tell(_: object) -> None:
        nonlocal told
        told += 1

    def start(work: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        return child

    def ready() -> None:
        for number in range(_WORKERS):

            def work(port: int = _PORT + number) -> None:
                made = end_connections(port, rate / _WORKERS, seconds)
                os.write(writing, b"%d\n" % made)

            workers.append(start(work))
        if stop:
            reader = os.getpid()

            def interrupt() -> None:
                time.sleep(seconds / 3)
                os.kill(reader, signal.SIGSTOP)
                time.sleep(stop)
                os.kill(reader, signal.SIGCONT)

            start(interrupt)

    def over() -> bool:
        nonlocal ended
        while workers and os.waitpid(workers[0], os.WNOHANG)[0]:
            workers.pop(0)
            ended = time.monotonic()
        return not workers and time.monotonic() > ended + 0.5

    before = time.process_time()
    outcome = trace(TraceRequest(source=source), Hooks(tell, print, over, ready))
    spent = time.process_time() - before
    made = sum(map(int, os.read(reading, 1000).split()))
    losses = outcome.losses
    return (
        f"{outcome.source}: {made / seconds:,.0f} connections/s, {2 * made:,} ends, {told:,} told; "
        f"lost: {losses.trace_events} trace events, {losses.announcements} announcements; "
        f"{spent / max(told, 1) * 1e6:.1f} us of a CPU for each end"
    )


def main() -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.closes")
    parser.add_argument("--source", default="auto")
    parser.add_argument("--rate", type=int, default=10_000, help="connections a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--stop", type=float, default=0.0, help="seconds to stop the reader for")
    asked = parser.parse_args()
    print(
        in_private(
            lambda: measure(asked.source, asked.rate, asked.seconds, asked.stop),
            tracefs=asked.source != "multicast",
        )
    )


if __name__ == "__main__":
    main()
