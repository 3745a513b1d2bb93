"""How true the told closing rate is where it is hardest: `python -m tests.bench.rates`.

Real connections in private namespaces, closed by the server first.  Each second the product looks,
and what it tells is held against the kernel's counters (TcpExt TW and TCPTimeWaitOverflow), read
five times a second beside it.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag import lab
from twdiag.analysis.rates import events
from twdiag.analysis.view import View
from twdiag.engine.look import Question
from twdiag.errors import TwdiagError
from twdiag.lab.actors import HERE, Program
from twdiag.sources import SHORT_PATIENCE, collect
from twdiag.sources.live.proc import read_counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from twdiag.lab import Stage
    from twdiag.lab.actors import Sockets

_EVERY: Final = 0.2
_WINDOW: Final = 3.0
"""Seconds that the counters' rate is taken over: as long as the told one looks back at a change."""


@dataclass(frozen=True)
class Load:
    """Closes to make: `per_second(t)` at t seconds, for so many seconds, then silence."""

    name: str
    per_second: Callable[[float], float]
    seconds: float
    silence: float = 0.0
    sysctls: tuple[tuple[str, str], ...] = ()


def _steadily(rate: float) -> Callable[[float], float]:
    return lambda _: rate


LOADS: Final = (
    Load(
        "one client on 300 ports, 100/s",
        _steadily(100),
        20,
        sysctls=(("net.ipv4.ip_local_port_range", "40000 40299"),),
    ),
    Load(
        "at tcp_max_tw_buckets (100), 50/s",
        _steadily(50),
        20,
        sysctls=(("net.ipv4.tcp_max_tw_buckets", "100"),),
    ),
    Load("a burst of 7 s, 60/s, then silence", _steadily(60), 7, 6),
    Load("a steady load, 80/s", _steadily(80), 20),
    Load("a rising load, 20/s to 120/s", lambda t: 20 + 5 * t, 20),
)


class Sample(NamedTuple):
    """One look: when (s), the rate that was told, and the counters' of the last seconds."""

    at: float
    told: float
    counted: float


def moments(load: Load) -> Iterator[float]:
    """Yield when each close is due, in seconds from the start."""
    at = 0.0
    while at < load.seconds:
        yield at
        at += 1 / load.per_second(at)


def start_closing(sockets: Sockets, number: int) -> None:
    """Make the closes of a load in a thread."""
    del sockets
    threading.Thread(target=_close_on_schedule, args=(LOADS[number],), daemon=True).start()


def _close_on_schedule(load: Load) -> None:
    listener = socket.socket()
    listener.bind((HERE, 8080))
    listener.listen(64)
    start = time.monotonic()
    for due in moments(load):
        time.sleep(max(0.0, start + due - time.monotonic()))
        client = socket.create_connection((HERE, 8080))
        listener.accept()[0].close()
        client.recv(1)
        client.close()
    threading.Event().wait()  # the listener stays


def build(number: int, stage: Stage) -> None:
    """Start the closes of a load."""
    for name, value in LOADS[number].sysctls:
        stage.sysctl(name, value)
    Program(stage, "server").do(start_closing, number)


class _Counters:
    """What the kernel's counters showed, five times a second, in a thread."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.note()
            time.sleep(_EVERY)

    def note(self) -> None:
        """Read the counters now."""
        self._seen.append((time.monotonic(), events(_counters())))

    def rate(self) -> float:
        """Return the closes a second of the last few seconds."""
        self.note()
        now, total = self._seen[-1]
        before = [(at, n) for at, n in self._seen if at <= now - _WINDOW] or self._seen[:1]
        return (total - before[-1][1]) / max(_EVERY, now - before[-1][0])


def _counters() -> Mapping[str, int]:
    counters, _, _ = read_counters()
    return counters


def observe(number: int, patience: float, stage: Stage) -> list[Sample]:
    """Look once a second while a load is on, and some time after it."""
    del stage
    load, counters, start = LOADS[number], _Counters(), time.monotonic()
    samples = []
    while (at := time.monotonic() - start) < load.seconds + load.silence:
        told = View(collect("netlink", patience)).closing.now
        samples.append(Sample(at, told, counters.rate()))
        time.sleep(max(0.0, start + len(samples) - time.monotonic()))
    return samples


def measure(number: int, patience: float) -> list[Sample]:
    """Return the looks at one load."""
    load = LOADS[number]
    scenario = lab.Scenario(load.name, "", "", partial(build, number))
    return lab.start(scenario, partial(observe, number, patience)).result(
        load.seconds + load.silence + 30
    )


def settled(load: Load, samples: Sequence[Sample]) -> list[Sample]:
    """Return the looks of which a true rate is asked: not while it has just begun or ended."""
    return [s for s in samples if _WINDOW + 1 <= s.at <= load.seconds - 0.5]


def ratios(load: Load, samples: Sequence[Sample]) -> list[float]:
    """Return told / counted of the settled looks."""
    return [s.told / s.counted for s in settled(load, samples) if s.counted]


def silent_after(load: Load, samples: Sequence[Sample]) -> float | None:
    """Return how many seconds after the load's end no rate was told any more, None if it was."""
    quiet = [s.at for s in samples if s.at > load.seconds and s.told < 1]
    return quiet[0] - load.seconds if quiet else None


def row(load: Load, samples: Sequence[Sample]) -> str:
    """Return a line of the table."""
    found = sorted(ratios(load, samples))
    end = silent_after(load, samples) if load.silence else None
    told = [s.told for s in settled(load, samples)]
    counted = [s.counted for s in settled(load, samples)]
    text = (
        f"{load.name:36} {statistics.median(told):7.1f} {statistics.median(counted):9.1f} "
        f"{statistics.median(found):8.2f} {found[0]:7.2f} {found[-1]:7.2f}"
    )
    return text + (f"   0/s told {end:.1f} s after its end" if end is not None else "")


def main(words: Sequence[str] | None = None) -> int:
    """Measure every load, one after the other, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rates", description=__doc__)
    parser.add_argument(
        "--patience",
        type=float,
        default=SHORT_PATIENCE,
        metavar="S",
        help=f"how long a look watches the counters: {SHORT_PATIENCE:g} as check does (default), "
        f"{Question().patience:g} as diagnose does",
    )
    patience = parser.parse_args(words).patience
    print(f"{'load':36} {'told/s':>7} {'counted/s':>9} {'median':>8} {'least':>7} {'most':>7}")
    try:
        for number, load in enumerate(LOADS):
            print(row(load, measure(number, patience)), flush=True)
    except TwdiagError as error:
        print(f"tests.bench.rates: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
