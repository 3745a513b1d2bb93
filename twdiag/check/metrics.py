"""The numbers that a check measures, each with its unit, bounds and meaning; None is unseen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.analysis.half_closed import Kind
from twdiag.analysis.port_use import WORTH_A_LOOK, uses
from twdiag.errors import UsageError
from twdiag.model.limits import nearest
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twdiag.analysis.half_closed import Waiting
    from twdiag.model import Snapshot

Values = Mapping[str, float | None]
"""What was measured, by the name of the metric; None was not seen."""

_TABLE_SIZE: Final = "net.ipv4.tcp_max_tw_buckets"
_MOST_ORPHANS: Final = "net.ipv4.tcp_max_orphans"
_PORT_RANGE: Final = "net.ipv4.ip_local_port_range"


class Sample(NamedTuple):
    """A snapshot with what several metrics take from it: each look at 600,000 rows takes 6 ms."""

    snapshot: Snapshot
    states: Mapping[State, int]
    waiting: tuple[Waiting, ...]


class Metric(NamedTuple):
    """One number.

    `unit` is Nagios's: "%", "s", "c" (a counter) or "" (a plain number).  `limits` names the limits
    of the rule that judges the number anyway.  `compares` tells that it needs an earlier sample,
    `owners` that it needs the owners of the sockets in CLOSE_WAIT.
    """

    name: str
    unit: str
    meaning: str
    read: Callable[[Sample], float | None]
    most: float | None = None
    limits: tuple[str, str] | None = None
    compares: bool = False
    owners: bool = False


def _in_state(state: State) -> Metric:
    def read(sample: Sample) -> float | None:
        return sample.states.get(state, 0)

    return Metric(state.name.lower(), "", f"sockets in {state.name}", read)


def _total(sample: Sample) -> float:
    return sum(sample.states.values())


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _table(sample: Sample) -> float | None:
    return _percent(sample.snapshot.sockstat.get("TCP.tw"), sample.snapshot.sysctl(_TABLE_SIZE))


def _orphans(sample: Sample) -> float | None:
    return _percent(
        sample.snapshot.sockstat.get("TCP.orphan"), sample.snapshot.sysctl(_MOST_ORPHANS)
    )


def _closes(sample: Sample) -> float | None:
    return None if "timers" in sample.snapshot.missing else sample.snapshot.flows.closes.mean


def _recent_closes(sample: Sample) -> float | None:
    return None if "timers" in sample.snapshot.missing else sample.snapshot.flows.closes.recent


class PortShare(NamedTuple):
    """The use of the local ports towards one destination; `taken_ratio` is a share of 1."""

    source: str
    address: str
    port: int
    used: int
    taken_ratio: float


def busiest(snapshot: Snapshot, most: int) -> tuple[PortShare, ...]:
    """Return the port use of the busiest destinations; none where the range was not seen."""
    if _PORT_RANGE not in snapshot.sysctls or "timers" in snapshot.missing:
        return ()
    text = snapshot.sockets.addresses.text
    return tuple(
        PortShare(text(d.source), text(d.address), d.port, use.used, use.taken_ratio)
        for use in uses(snapshot, 0.0)[:most]
        for d in (use.destination,)
    )


def _ports_used(sample: Sample) -> float | None:
    snapshot = sample.snapshot
    if _PORT_RANGE not in snapshot.sysctls:
        return None
    busiest = snapshot.flows.busiest_destination()
    return _percent(busiest[1], snapshot.flows.budget.ports) if busiest else 0.0


def _ports_taken(sample: Sample) -> float | None:
    """The worst of the destinations with a part of their ports used that is worth a look."""
    snapshot = sample.snapshot
    if _PORT_RANGE not in snapshot.sysctls or "timers" in snapshot.missing:
        return None
    found = uses(snapshot, WORTH_A_LOOK) or uses(snapshot, 0.0)
    return max((100 * use.taken_ratio for use in found), default=0.0)


def _oldest(sample: Sample) -> float | None:
    ages = [w.age_min for w in sample.waiting if w.age_min is not None]
    return max(ages) if ages else None if sample.waiting else 0.0


def _new_close_waits(sample: Sample) -> float | None:
    flags = [w.new for w in sample.waiting]
    if sample.snapshot.earlier is None or None in flags:
        return None
    return sum(1 for new in flags if new)


def held_inodes(snapshot: Snapshot) -> Iterator[int]:
    """Yield the inodes of the CLOSE_WAITs that a process holds."""
    return _held(snapshot, snapshot.close_waits)


def _held(snapshot: Snapshot, sockets: Iterable[Waiting]) -> Iterator[int]:
    for waiting in sockets:
        if waiting.kind is not Kind.NEVER_ACCEPTED and snapshot.sockets.inode[waiting.row]:
            yield snapshot.sockets.inode[waiting.row]


def _fds(sample: Sample) -> float | None:
    """The fullest process that holds a CLOSE_WAIT; unseen if any of the holders was not seen."""
    snapshot = sample.snapshot
    if "inodes" in snapshot.missing:
        return None
    shares = [0.0]
    for inode in _held(snapshot, sample.waiting):
        for owner in snapshot.owners.get(inode, ()) or (None,):
            share = _percent(owner.fds, owner.fd_limit) if owner else None
            if share is None:
                return None
            shares.append(share)
    return max(shares)


def _accept_queue(sample: Sample) -> float | None:
    if {"queues", "backlog"} & sample.snapshot.missing:
        return None
    table = sample.snapshot.sockets
    rows = (row for found in sample.snapshot.flows.listeners.values() for row in found.rows)
    # The kernel takes backlog + 1 connections: sk_acceptq_is_full() in include/net/sock.h.
    return 100 * max((table.recv_q[r] / (table.send_q[r] + 1) for r in rows), default=0.0)


def _counter(name: str, counter: str, meaning: str) -> tuple[Metric, Metric]:
    def read(sample: Sample) -> float | None:
        return sample.snapshot.counters.get(counter)

    def grown(sample: Sample) -> float | None:
        return sample.snapshot.grown(counter)

    return (
        Metric(f"{name}_total", "c", f"since boot: {meaning} ({counter})", read),
        Metric(f"new_{name}", "", f"since the last run: {meaning}", grown, compares=True),
    )


_LOST, _NEW_LOST = _counter(
    "time_wait_overflows",
    "TcpExt.TCPTimeWaitOverflow",
    "sockets closed without TIME_WAIT, its table being full",
)
_DROPPED, _NEW_DROPPED = _counter(
    "listen_overflows",
    "TcpExt.ListenOverflows",
    "connections dropped at a full accept queue",
)

METRICS: Final[tuple[Metric, ...]] = (
    _in_state(State.TIME_WAIT),
    _in_state(State.CLOSE_WAIT),
    _in_state(State.ESTABLISHED),
    Metric(
        "ports_used_ratio", "%", "local ports in use to the busiest destination", _ports_used, 100
    ),
    Metric(
        "ports_taken_ratio",
        "%",
        "local ports to one destination that connect() cannot get (TIME_WAIT that tcp_tw_reuse "
        "frees left out)",
        _ports_taken,
        100,
        ("ports-warning", "ports-critical"),
    ),
    Metric(
        "time_wait_table_ratio",
        "%",
        "TIME_WAIT of tcp_max_tw_buckets",
        _table,
        100,
        ("time-wait-table-warning", "time-wait-table-critical"),
    ),
    Metric("closes_per_second", "", "closes into TIME_WAIT a second, last minute", _closes),
    Metric(
        "recent_closes_per_second", "", "the same over the last ten seconds, median", _recent_closes
    ),
    Metric("close_wait_age", "s", "least age of the oldest CLOSE_WAIT", _oldest),
    Metric(
        "fd_ratio",
        "%",
        "open descriptors of the fullest process that holds a CLOSE_WAIT",
        _fds,
        100,
        ("fds-warning", "fds-critical"),
        owners=True,
    ),
    Metric("accept_queue_ratio", "%", "how full the fullest accept queue is", _accept_queue),
    Metric(
        "orphans_ratio",
        "%",
        "orphaned sockets of tcp_max_orphans, host-wide",
        _orphans,
        None,
        ("orphans-warning", "orphans-critical"),
    ),
    *map(
        _in_state,
        (
            State.FIN_WAIT1,
            State.FIN_WAIT2,
            State.CLOSING,
            State.LAST_ACK,
            State.SYN_SENT,
            State.SYN_RECV,
            State.LISTEN,
        ),
    ),
    Metric("total", "", "sockets in any state", _total),
    _LOST,
    _DROPPED,
    Metric(
        "new_close_wait",
        "",
        "sockets in CLOSE_WAIT that were not at the last run",
        _new_close_waits,
        compares=True,
    ),
    _NEW_LOST,
    _NEW_DROPPED,
)
"""Every metric, in the order of the perfdata; the names never change."""

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


def measure(snapshot: Snapshot) -> Values:
    """Return the value of every metric."""
    if "sockets" in snapshot.missing:
        return dict.fromkeys(_BY_NAME)
    sample = Sample(snapshot, snapshot.sockets.count_states(), tuple(snapshot.close_waits))
    return {metric.name: metric.read(sample) for metric in METRICS}


def find(name: str, origin: str) -> Metric:
    """Return the metric of a name; raises UsageError, naming the origin, where there is none."""
    metric = _BY_NAME.get(name.strip().lower().replace("-", "_"))
    if metric is None:
        raise UsageError(
            f"{origin}: there is no metric {name.strip()!r}{nearest(name, _BY_NAME)}",
            "list them with: twdiag check --list-metrics",
        )
    return metric
