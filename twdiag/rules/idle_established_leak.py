"""Idle connections of a process pile up towards its limit of open descriptors.

What it means:
Much of what the process has open are ESTABLISHED connections on which nothing moves and that no
keepalive guards, and their number grows. One look shows it where connections have come at a steady
pace for an hour or longer, for most of the process's life, and none has been closed: the times
since data last moved on them are spread evenly. Otherwise it takes two samples. Usual causes: a
client that makes a new pool for each request or does not close what it fetched; a server without an
idle timeout whose clients vanish without a word (a crash, a NAT or firewall that forgot them).

Why it matters:
Nothing ends such a connection: without keepalive the kernel never asks whether the peer is still
there. Each one takes a descriptor, and at the limit accept() and connect() fail with EMFILE ("Too
many open files").

What to do:
Find out whose they are: the addresses and ports name the service. Close what is no longer used,
give the server an idle timeout or the pool a maximum life, and turn on SO_KEEPALIVE so that dead
peers are noticed. Restarting the process buys time.

What not to do:
- Do not only raise the descriptor limit: that only postpones the failure.
- Do not lower net.ipv4.tcp_keepalive_time alone: it does nothing for sockets without SO_KEEPALIVE.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from twdiag.analysis.ages import pile
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Place, Severity
from twdiag.model.limits import ratio, seconds
from twdiag.named import NamedTuple
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind, these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import crowded, process_subject, software_advice
from twdiag.tcp import State
from twdiag.wording import duration, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.ages import Pile
    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Breakdown, Owner
    from twdiag.model.sockets import Socket

NAME = "idle-established-leak"
SHARE = ratio("idle-share", 0.25, "idle connections without keepalive as a share of the limit")
AGE = seconds("idle-age", 3600, "how long the oldest have been idle, where one look is enough")
GROWN_AGE = seconds(
    "idle-grown-age", 300, "the same, where two samples show that their number grows"
)
SOON = seconds("idle-leak-seconds", 14_400, "time until the limit is reached that is a warning")

_OF_LIFE: Final = 0.8
"""An idle timeout spreads ages evenly too, but mostly over a small share of a process's life."""
_LEAST_GROWTH: Final = 5
_LEAST_SECONDS: Final = 60.0
_MOST_SERVICES: Final = 3


class _Leak(NamedTuple):
    """How many idle connections a process has, how many come each second, and for how long (s) the
    oldest and all of them have idled."""

    sockets: int
    oldest: float
    per_second: float
    least: float


def select(view: View, limits: Limits) -> Iterator[Group[Owner]]:
    """Yield the processes with many descriptors in use: only theirs are worth a closer look."""
    return crowded(view, limits[SHARE])


def tell(view: View, limits: Limits, group: Group[Owner]) -> Iterator[Finding]:
    """Yield a finding on a process whose idle connections pile up."""
    owner, breakdown = group.about, view.breakdown(group.about.pid)
    leak = None if breakdown is None else _leak(view, limits, owner, breakdown)
    if breakdown and leak is not None:
        yield _finding(view, limits, owner, leak, breakdown)


def rows(view: View, limits: Limits, group: Group[Owner]) -> RowsBehind:
    """Return the connections that have idled for long, of those that were asked for their age."""
    breakdown = view.breakdown(group.about.pid)
    leak = None if breakdown is None else _leak(view, limits, group.about, breakdown)
    if breakdown is None or leak is None:
        return these(())
    return these(socket for socket in breakdown.unguarded if _idle(socket) >= leak.least)


def _leak(view: View, limits: Limits, owner: Owner, breakdown: Breakdown) -> _Leak | None:
    """Return what piles up to a good part of the limit, None where it is not sure that it does."""
    leak = _piled_up(view, limits, owner, breakdown) if breakdown.unguarded else None
    enough = leak is not None and leak.sockets >= limits[SHARE] * (owner.fd_limit or 0)
    return leak if enough else None


def _piled_up(view: View, limits: Limits, owner: Owner, breakdown: Breakdown) -> _Leak | None:
    """Return what piles up, None where it is not sure that anything does."""
    ages = [_idle(socket) for socket in breakdown.unguarded]
    scale, grown, found = _scale(owner, breakdown), _growth(view, owner), pile(ages)
    if found is not None and _is_sure(limits, found, breakdown, grown, scale):
        old = sum(1 for age in ages if age >= found.young)
        return _Leak(round(old * scale), found.oldest, found.per_second * scale, found.young)
    old = sum(1 for age in ages if age >= limits[AGE])
    if grown and 2 * old >= len(ages):
        return _Leak(round(old * scale), max(ages), grown, limits[AGE])
    return None


def _is_sure(
    limits: Limits, found: Pile, breakdown: Breakdown, grown: float | None, scale: float
) -> bool:
    """Return whether idle sockets of evenly spread ages become more.

    Where an idle timeout closes them they are spread evenly too, and their number stays.
    """
    if grown is not None:
        return found.oldest >= limits[GROWN_AGE] and grown >= found.per_second * scale / 2
    life = breakdown.running
    return found.oldest >= limits[AGE] and life is not None and found.oldest >= _OF_LIFE * life


def _idle(socket: Socket) -> float:
    """Return for how long (s) no data went either way."""
    info = socket.info
    return min(info.last_data_sent, info.last_data_recv) / 1000 if info else 0.0


def _scale(owner: Owner, breakdown: Breakdown) -> float:
    """Return how many connections one that was asked for its age stands for."""
    live = breakdown.states.get(State.ESTABLISHED, 0)
    return live / breakdown.aged * max(1.0, (owner.fds or 0) / breakdown.looked)


def _growth(view: View, owner: Owner) -> float | None:
    """Return by how many descriptors a second a process grew since the earlier sample.

    None without one, or where it is too short ago to tell; 0 where it did not grow for sure.
    """
    before, earlier = view.process_before(owner.pid), view.earlier
    if before is None or before.fds is None or earlier is None or owner.fds is None:
        return None
    elapsed = view.taken_at - earlier.taken_at
    if elapsed < _LEAST_SECONDS:
        return None
    grown = owner.fds - before.fds
    return grown / elapsed if grown >= _LEAST_GROWTH else 0.0


def _finding(
    view: View, limits: Limits, owner: Owner, leak: _Leak, breakdown: Breakdown
) -> Finding:
    fds, limit = owner.fds or 0, owner.fd_limit or 0
    left = max(0.0, (limit - fds) / leak.per_second)
    services = _services(view, breakdown)
    return Finding(
        Severity.WARNING if left <= limits[SOON] else Severity.NOTICE,
        Confidence.INFERRED,
        f"{owner.name} (pid {owner.pid}) piles up idle connections: {leak.sockets:,} without "
        f"keepalive, idle for up to {duration(leak.oldest)}; its descriptor limit is reached in "
        f"{duration(left)} at this rate ({fds:,} of {limit:,} open)",
        process_subject(owner),
        {
            facts.IDLE: leak.sockets,
            facts.IDLE_MAX: round(leak.oldest, 1),
            facts.GROWTH: round(leak.per_second, 4),
            facts.ESTABLISHED: breakdown.states.get(State.ESTABLISHED, 0),
            facts.FDS: fds,
            facts.FD_LIMIT: limit,
            facts.FD_RATIO: round(fds / limit, 4) if limit else None,
            facts.SECONDS_LEFT: round(left, 1),
            facts.PEERS: [name for name, _ in services],
            facts.PEER_SOCKETS: [number for _, number in services],
        },
        _advice(owner, services),
        Place.of(State.ESTABLISHED),
    )


def _services(view: View, breakdown: Breakdown) -> list[tuple[str, int]]:
    """Return (service, idle sockets of those asked), the busiest first."""
    found: Counter[str] = Counter()
    for socket in breakdown.unguarded:
        if view.is_server(socket):
            found[f"local port {socket.local_port}"] += 1
        else:
            found[endpoint(socket.remote_address, socket.remote_port)] += 1
    return found.most_common(_MOST_SERVICES)


def _advice(owner: Owner, services: list[tuple[str, int]]) -> tuple[Advice, ...]:
    name = services[0][0]
    served = name.startswith("local")
    where = f"clients of {name}" if served else f"connections to {name}"
    return (
        Advice(
            f"See how long each has been idle (lastsnd, lastrcv, in ms); most are {where}",
            f"ss -tnpi state established | grep -A1 pid={owner.pid},",
            verify=f"fewer descriptors: ls /proc/{owner.pid}/fd | wc -l",
        ),
        Advice(
            "Give the server an idle timeout" if served else "Close what is done with",
            "" if served else "one pool for the whole process, with a maximum life",
            "" if served else "connections are opened a little more often",
        ),
        *software_advice((owner,), "server" if served else "client", "pool"),
        Advice(
            "Turn on SO_KEEPALIVE, so that connections of vanished peers end",
            "in the application; then net.ipv4.tcp_keepalive_time (2 hours by default) applies",
        ),
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "tcp-info"),
    (SHARE, AGE, GROWN_AGE, SOON),
    rows,
)
