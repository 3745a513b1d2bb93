"""What one run remembers for the next: as JSON values, and back as the earlier of two samples.

Time between two runs is measured by CLOCK_BOOTTIME, which no clock step moves and which runs on
during suspend; the boot id tells a reboot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.census.addresses import bytes_of_text
from twdiag.history.notify import Told
from twdiag.model import conntrack
from twdiag.model.census import Census
from twdiag.model.snapshot import Gap, Host, Owner, Snapshot
from twdiag.model.sockets import Socket
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA: Final = "twdiag-state/1"
MOST_ROWS: Final = 20_000
"""Half-closed sockets that are remembered; with more, none is: a part would look like growth."""
MOST_OWNERS: Final = 500
MOST_BYTES: Final = 4 << 20
"""A file larger than this was not written by twdiag: a full one has about 2 MiB."""
OLDEST_SECONDS: Final = 86_400
"""An older sample says nothing about now."""
CLOCK_STEP_SECONDS: Final = 5.0

_COUNTERS: Final = (
    "TcpExt.TCPTimeWaitOverflow",
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.TW",
    "Tcp.ActiveOpens",
    "Tcp.PassiveOpens",
    conntrack.INSERT_FAILED,
    conntrack.DROP,
    conntrack.EARLY_DROP,
)
_REMEMBERED: Final = (State.CLOSE_WAIT, State.FIN_WAIT2)
_STATUSES: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


class Moment(NamedTuple):
    """When and where a sample was taken: boot, seconds since boot, wall clock, namespace."""

    boot: str
    uptime: float
    wall: float
    netns: int


class RememberedOwner(NamedTuple):
    """The owner of a half-closed socket, with what tells it from a later process of its number."""

    started: int
    owner: Owner


class Memory(NamedTuple):
    """What was remembered.  `sockets` is None where there were too many to remember.

    `data` is the same as JSON values; `status` is that of the last run, `told` what was told last.
    """

    moment: Moment
    source: str
    counters: Mapping[str, int]
    sockets: tuple[Socket, ...] | None
    processes: tuple[RememberedOwner, ...]
    status: str
    told: Told
    data: Mapping[str, Any]


class Foreign(ValueError):
    """Not something that this program wrote; the message says why."""


def to_data(
    snapshot: Snapshot,
    moment: Moment,
    processes: Iterable[RememberedOwner],
    status: str,
    told: Told | None = None,
) -> dict[str, Any]:
    """Return what to remember of a snapshot as JSON values; by default its status was told."""
    waiting = snapshot.census.in_state(*_REMEMBERED)
    rows = None if len(waiting) > MOST_ROWS else [_row(socket) for socket in waiting]
    return {
        "schema": SCHEMA,
        "boot": moment.boot,
        "uptime": round(moment.uptime, 3),
        "wall": round(moment.wall, 3),
        "netns": moment.netns,
        "source": snapshot.source,
        "counters": {c: snapshot.counters[c] for c in _COUNTERS if c in snapshot.counters},
        "rows": rows,
        "processes": [_process(process) for process in list(processes)[:MOST_OWNERS]],
        "status": status,
        "told": list(told or Told(status, round(moment.wall, 3))),
    }


def _row(socket: Socket) -> list[Any]:
    ends = socket.local_address, socket.local_port, socket.remote_address, socket.remote_port
    return [socket.state.name, *ends, socket.inode, socket.cookie]


def _process(process: RememberedOwner) -> list[Any]:
    owner = process.owner
    return [process.started, owner.pid, owner.name, owner.user, owner.fds, owner.fd_limit]


def from_data(data: object) -> Memory:
    """Return what JSON values remember; raises Foreign for anything that to_data() never made."""
    if not isinstance(data, dict):
        raise Foreign("it is not a JSON object")
    if data.get("schema") != SCHEMA:
        raise Foreign(f"its schema is {str(data.get('schema'))[:40]!r}, not {SCHEMA!r}")
    try:
        return _memory(data)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Foreign(f"its content makes no sense ({type(error).__name__}: {error})") from error


def _memory(data: dict[str, Any]) -> Memory:
    rows = data["rows"]
    if data["status"] not in _STATUSES:
        raise ValueError("status")
    return Memory(
        Moment(_text(data["boot"]), _real(data["uptime"]), _real(data["wall"]), _n(data["netns"])),
        _text(data["source"]),
        {_text(name): _n(value) for name, value in data["counters"].items()},
        None if rows is None else tuple(_socket(row) for row in rows[:MOST_ROWS]),
        tuple(_remembered_process(entry) for entry in data["processes"][:MOST_OWNERS]),
        data["status"],
        # The first edition kept no more than the status.
        _told(data.get("told", [data["status"], data["wall"]])),
        data,
    )


def _told(told: object) -> Told:
    if not isinstance(told, list) or len(told) != 2 or told[0] not in _STATUSES:
        raise ValueError("told")
    return Told(told[0], _real(told[1]))


def _socket(row: list[Any]) -> Socket:
    state, local, local_port, remote, remote_port, inode, cookie = row
    return Socket(
        State[state],
        _address(local),
        _n(local_port, 16),
        _address(remote),
        _n(remote_port, 16),
        inode=_n(inode, 32),
        cookie=_n(cookie, 64),
    )


def _remembered_process(entry: list[Any]) -> RememberedOwner:
    started, pid, name, user, fds, limit = entry
    fds, limit = (None if number is None else _n(number) for number in (fds, limit))
    return RememberedOwner(_n(started), Owner(_n(pid), _text(name), _text(user), fds, limit))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _address(value: object) -> str:
    text = _text(value)
    bytes_of_text(text)  # raises ValueError
    return text


def _n(value: object, bits: int = 64) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise ValueError("a number is out of range")
    return value


def _real(value: object) -> float:
    # The largest date that a clock can show; this also refuses nan and infinity.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise ValueError("a time is out of range")
    return float(value)


def why_not_comparable(memory: Memory, now: Moment) -> str:
    """Return why the remembered sample cannot be compared with one taken now, "" where it can."""
    if not memory.moment.boot:
        return "the last run could not look"
    if memory.moment.boot != now.boot:
        return "the host was started again since the last run"
    if memory.moment.netns != now.netns:
        return "the last run looked at another network namespace"
    elapsed = now.uptime - memory.moment.uptime
    if elapsed <= 0:
        return "the last run is not in the past"
    if elapsed > OLDEST_SECONDS:
        return f"the last run was {elapsed / 3600:.0f} h ago"
    return ""


def clock_step(memory: Memory, now: Moment) -> float:
    """Return by how many seconds the wall clock was set since the last run, 0 where it was not."""
    step = (now.wall - memory.moment.wall) - (now.uptime - memory.moment.uptime)
    return step if abs(step) >= CLOCK_STEP_SECONDS else 0.0


def earlier_sample(
    memory: Memory, now: Moment, snapshot: Snapshot, alive: Mapping[int, int]
) -> Snapshot:
    """Return the remembered sample as the earlier one of a snapshot taken now.

    `alive` has the start time of each process that still lives, so that a number that went to
    another process is not compared.  Sockets are only compared if the same source read both: not
    every source shows what tells a socket from a later one with the same ends.
    """
    sockets = memory.sockets if memory.source == snapshot.source else None
    gap = Gap("sockets", "the last run did not remember comparable sockets", "")
    owners = tuple(p.owner for p in memory.processes if alive.get(p.owner.pid) == p.started)
    return Snapshot(
        taken_at=snapshot.taken_at - (now.uptime - memory.moment.uptime),
        host=Host(snapshot.host.name, snapshot.host.kernel),
        source=memory.source,
        census=Census(sockets or ()),
        netns=snapshot.netns,
        # A counter below what was remembered is another one: of a module loaded again, say.
        counters={
            name: value
            for name, value in memory.counters.items()
            if value <= snapshot.counters.get(name, -1)
        },
        # What was remembered is who held descriptors, not which of them.
        owners={0: owners},
        gaps=(gap,) if sockets is None else (),
    )
