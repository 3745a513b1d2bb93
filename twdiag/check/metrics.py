"""The numbers that a check measures, each with its unit, bounds and meaning; None is unseen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from twdiag.errors import UsageError
from twdiag.model import conntrack
from twdiag.model.limits import nearest
from twdiag.named import NamedTuple
from twdiag.rules import (
    conntrack_filling,
    fd_limit_near,
    fin_unanswered,
    ports_running_out,
    snat_ports_running_out,
    time_wait_table_filling,
)
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limit

Values = Mapping[str, float | None]
"""What was measured, by the name of the metric; None was not seen."""

_TABLE_SIZE: Final = "net.ipv4.tcp_max_tw_buckets"
_MOST_ORPHANS: Final = "net.ipv4.tcp_max_orphans"
_PORT_RANGE: Final = "net.ipv4.ip_local_port_range"


class Metric(NamedTuple):
    """One number.

    `unit` is Nagios's: "%", "s", "c" (a counter) or "" (a plain number).  `limits` names the limits
    of the rule that judges the number anyway.  `compares` tells that it needs an earlier sample,
    `optional` that it is left out of the perfdata where it was not seen: few hosts have it.  Then
    `goes_with` names the metric with which it is there.  `shown_by` says where alone it is shown.
    """

    name: str
    unit: str
    meaning: str
    read: Callable[[View], float | None]
    most: float | None = None
    limits: tuple[Limit, Limit] | None = None
    compares: bool = False
    optional: bool = False
    goes_with: str = ""
    shown_by: str = ""


def _in_state(state: State) -> Metric:
    def read(view: View) -> float | None:
        return view.count(state)

    return Metric(state.name.lower(), "", f"sockets in {state.name}", read)


def _total(view: View) -> float:
    return sum(view.census.states.values())


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _table(view: View) -> float | None:
    return _percent(view.sockstat("TCP.tw"), view.sysctl(_TABLE_SIZE))


def _orphans(view: View) -> float | None:
    return _percent(view.sockstat("TCP.orphan"), view.sysctl(_MOST_ORPHANS))


def _closes(view: View) -> float | None:
    return None if "timers" in view.missing else view.closes.mean


def _recent_closes(view: View) -> float | None:
    return None if "timers" in view.missing else view.closing.now


class PortShare(NamedTuple):
    """The use of the local ports towards one destination; `taken_ratio` is a share of 1."""

    source: str
    address: str
    port: int
    used: int
    taken_ratio: float


def busiest(view: View, most: int) -> tuple[PortShare, ...]:
    """Return the port use of the busiest destinations; none where the range was not seen."""
    if not view.sysctl_text(_PORT_RANGE) or "timers" in view.missing:
        return ()
    return tuple(
        PortShare(d.source, d.address, d.port, use.used, use.taken_ratio)
        for use in view.port_use[:most]
        for d in (use.destination,)
    )


def _ports_used(view: View) -> float | None:
    if not view.sysctl_text(_PORT_RANGE):
        return None
    most = max((d.sockets for d in view.destinations(1)), default=0)
    return _percent(most, view.budget.ports) if most else 0.0


def _ports_taken(view: View) -> float | None:
    """The worst of the destinations."""
    if not view.sysctl_text(_PORT_RANGE) or "timers" in view.missing:
        return None
    return max((100 * use.taken_ratio for use in view.port_use), default=0.0)


def _oldest(view: View) -> float | None:
    ages = [w.age_min for w in view.close_waits if w.age_min is not None]
    return max(ages) if ages else None if view.close_waits else 0.0


def _new_close_waits(view: View) -> float | None:
    flags = [w.new for w in view.close_waits]
    if view.earlier is None or None in flags:
        return None
    return sum(1 for new in flags if new)


def _fds(view: View) -> float | None:
    """The fullest process of the namespace, whatever its descriptors are."""
    fullest = view.snapshot.fullest
    return None if fullest is None else 100 * fullest


def _accept_queue(view: View) -> float | None:
    if {"queues", "backlog"} & view.missing:
        return None
    sockets = (socket for listener in view.listeners for socket in listener.sockets)
    # The kernel takes backlog + 1 connections: sk_acceptq_is_full() in include/net/sock.h.
    return 100 * max((s.recv_q / (s.send_q + 1) for s in sockets), default=0.0)


def _conntrack(view: View) -> float | None:
    seen = view.conntrack
    return (
        None if seen is None or not seen.counters else _percent(seen.counters.entries, seen.maximum)
    )


def _snat_ports(view: View) -> float | None:
    """The fullest SNAT."""
    seen = view.conntrack
    if seen is None or seen.snats is None or not (seen.snats or seen.complete):
        return None
    return max((100 * use.live_ratio for use in view.snat_use), default=0.0)


def _counter(
    name: str, counter: str, meaning: str, *, optional: bool = False
) -> tuple[Metric, Metric]:
    def read(view: View) -> float | None:
        return view.counter(counter)

    def grown(view: View) -> float | None:
        return view.grown(counter)

    return (
        Metric(f"{name}_total", "c", f"since boot: {meaning} ({counter})", read, optional=optional),
        Metric(
            f"new_{name}",
            "",
            f"since the last run: {meaning}",
            grown,
            compares=True,
            optional=optional,
            goes_with=f"{name}_total",
        ),
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

_TABLE_DROPS, _NEW_TABLE_DROPS = _counter(
    "conntrack_drops",
    conntrack.DROP,
    "packets dropped for want of a conntrack entry or a NAT port",
    optional=True,
)

METRICS: Final[tuple[Metric, ...]] = (
    _in_state(State.TIME_WAIT),
    _in_state(State.CLOSE_WAIT),
    _in_state(State.ESTABLISHED),
    Metric(
        "ports_used_ratio",
        "%",
        "local ports in use towards the busiest destination",
        _ports_used,
        100,
    ),
    Metric(
        "ports_taken_ratio",
        "%",
        "local ports to one destination that connect() cannot get (without those that "
        "tcp_tw_reuse frees)",
        _ports_taken,
        100,
        (ports_running_out.WARNING, ports_running_out.CRITICAL),
    ),
    Metric(
        "time_wait_table_ratio",
        "%",
        "how full the TIME_WAIT table is (tcp_max_tw_buckets)",
        _table,
        100,
        (time_wait_table_filling.WARNING, time_wait_table_filling.CRITICAL),
    ),
    Metric("closes_per_second", "", "closes into TIME_WAIT per second, last minute", _closes),
    Metric(
        "recent_closes_per_second",
        "",
        "closes into TIME_WAIT per second, right now",
        _recent_closes,
    ),
    Metric("close_wait_age", "s", "age of the oldest CLOSE_WAIT, at least", _oldest),
    Metric(
        "fd_ratio",
        "%",
        "how near the fullest process is to its descriptor limit (of those with 48 or more open)",
        _fds,
        100,
        (fd_limit_near.WARNING, fd_limit_near.CRITICAL),
    ),
    Metric("accept_queue_ratio", "%", "how full the fullest accept queue is", _accept_queue),
    Metric(
        "orphans_ratio",
        "%",
        "orphaned sockets as a share of tcp_max_orphans, host-wide",
        _orphans,
        None,
        (fin_unanswered.ORPHANS_WARNING, fin_unanswered.ORPHANS_CRITICAL),
        shown_by="the host's namespace",
    ),
    Metric(
        "conntrack_ratio",
        "%",
        "how full the conntrack table is (nf_conntrack_max)",
        _conntrack,
        100,
        (conntrack_filling.WARNING, conntrack_filling.CRITICAL),
        optional=True,
    ),
    Metric(
        "snat_ports_ratio",
        "%",
        "source ports in use by open connections, of the fullest SNAT to one destination",
        _snat_ports,
        100,
        (snat_ports_running_out.WARNING, snat_ports_running_out.CRITICAL),
        optional=True,
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
    _TABLE_DROPS,
    Metric(
        "new_close_wait",
        "",
        "sockets in CLOSE_WAIT that were not there at the last run",
        _new_close_waits,
        compares=True,
    ),
    _NEW_LOST,
    _NEW_DROPPED,
    _NEW_TABLE_DROPS,
)
"""Every metric, in the order of the perfdata; the names never change."""

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


def measure(view: View) -> Values:
    """Return the value of every metric."""
    if "sockets" in view.missing:
        return dict.fromkeys(_BY_NAME)
    return {metric.name: metric.read(view) for metric in METRICS}


def find(name: str, origin: str) -> Metric:
    """Return the metric of a name; raises UsageError, naming the origin, where there is none."""
    metric = _BY_NAME.get(name.strip().lower().replace("-", "_"))
    if metric is None:
        raise UsageError(
            f"{origin}: there is no metric {name.strip()!r}{nearest(name, _BY_NAME)}",
            "list them with: twdiag check --list-metrics",
        )
    return metric
