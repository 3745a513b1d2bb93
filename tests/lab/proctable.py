"""What the kernel shows of a namespace, read from /proc by a parser that the lab does not share."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twdiag.lab import Stage

STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
}
USER_HZ = 100  # the unit of every time in /proc/net/tcp


@dataclass(frozen=True)
class Row:
    """One line of /proc/net/tcp or tcp6; addresses are in the kernel's hexadecimal."""

    table: str
    address: str
    port: int
    remote_address: str
    remote_port: int
    state: str
    send_queue: int
    recv_queue: int
    timer: int
    expires: float
    retransmissions: int
    inode: int


@dataclass(frozen=True)
class Process:
    """A process of the play: its name as the kernel has it, and what its descriptors are."""

    pid: int
    name: str
    descriptors: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """Everything an observer saw in one private namespace, between two moments."""

    rows: tuple[Row, ...]
    counters: dict[str, int]
    processes: tuple[Process, ...]
    notes: dict[str, object]
    moment: float
    later: float
    director: int = field(default_factory=os.getpid)

    def states(self) -> dict[str, int]:
        """Count rows by state."""
        return dict(Counter(row.state for row in self.rows))

    def of(self, state: str) -> list[Row]:
        """Return the rows of a state."""
        return [row for row in self.rows if row.state == state]

    def pids(self) -> list[int]:
        """Return every process of the play."""
        return [self.director, *(process.pid for process in self.processes)]


def look(stage: Stage) -> Seen:
    """Observe a stage."""
    moment = time.monotonic()
    rows = tuple(_parse("tcp") + _parse("tcp6"))
    later = time.monotonic()
    return Seen(
        rows,
        _counters(),
        tuple(_process(a.pid) for a in stage.actors if Path(f"/proc/{a.pid}").exists()),
        stage.notes,
        moment,
        later,
    )


def _parse(table: str) -> list[Row]:
    path = Path("/proc/self/net", table)
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return [_row(table, line.split()) for line in lines]


def _row(table: str, words: list[str]) -> Row:
    (address, port), (remote, remote_port) = words[1].split(":"), words[2].split(":")
    (sent, received), (timer, expires) = words[4].split(":"), words[5].split(":")
    return Row(
        table,
        address,
        int(port, 16),
        remote,
        int(remote_port, 16),
        STATES[int(words[3], 16)],
        int(sent, 16),
        int(received, 16),
        int(timer, 16),
        int(expires, 16) / USER_HZ,
        int(words[6], 16),
        int(words[9]),
    )


def _counters() -> dict[str, int]:
    counters = {}
    lines = Path("/proc/self/net/netstat").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        counters.update(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
    return counters


def _process(pid: int) -> Process:
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # A program that goes on closes some of them meanwhile.
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(link))
    return Process(pid, Path(f"/proc/{pid}/comm").read_text()[:-1], tuple(links))
