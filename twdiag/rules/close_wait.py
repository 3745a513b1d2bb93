"""What the rules on CLOSE_WAIT share: which sockets are old, whose they are, and their evidence."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import by_program
from twdiag.model import facts
from twdiag.model.limits import ratio, seconds, sockets
from twdiag.rules.behind import these
from twdiag.rules.rule import Group
from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.analysis.half_closed import CloseWaitKind, Holder, Waiting
    from twdiag.analysis.view import View
    from twdiag.model.findings import Value
    from twdiag.model.limits import Limits
    from twdiag.rules.behind import RowsBehind

AGE = seconds("close-wait-age", 10, "a CLOSE_WAIT younger than this is nobody's leak")
NOTICE = sockets("close-wait-notice", 5, "old CLOSE_WAIT sockets of one process")
WARNING = sockets(
    "close-wait-warning", 50, "CLOSE_WAIT sockets of one process older than the next limit"
)
WARNING_AGE = seconds("close-wait-warning-age", 60, "age from which close-wait-warning counts")
FDS_WARNING = ratio(
    "close-wait-fds-warning", 0.5, "CLOSE_WAIT sockets as a share of the descriptor limit"
)
FDS_CRITICAL = ratio(
    "close-wait-fds-critical", 0.9, "CLOSE_WAIT sockets as a share of the descriptor limit"
)
LEAK_SECONDS = seconds(
    "close-wait-leak-seconds", 900, "time until a pool's leak reaches the descriptor limit"
)
LIMITS = (AGE, NOTICE, WARNING, WARNING_AGE)

_MOST_PIDS = 100

Aged = tuple["Waiting", ...]
"""CLOSE_WAITs of one kind that are certainly older than the limit."""


def aged(view: View, limits: Limits, kind: CloseWaitKind) -> Iterator[Group[Aged]]:
    """Yield all CLOSE_WAITs of a kind that are certainly older than the limit, if there are any."""
    least = limits[AGE]
    old = tuple(w for w in view.close_waits if w.kind is kind and (w.age_min or 0.0) >= least)
    if old:
        yield Group(old, tuple(w.socket.inode for w in old if w.socket.inode))


def noticed(view: View, limits: Limits, group: Group[Aged]) -> Iterator[Holder]:
    """Yield the programs that hold enough of the sockets to be told of."""
    for holder in by_program(view.owners, group.about):
        if len(holder.sockets) >= limits[NOTICE]:
            yield holder


def rows_of(holders: Iterable[Holder]) -> RowsBehind:
    """Return the sockets of some holders as the rows behind their findings."""
    return these(waiting.socket for holder in holders for waiting in holder.sockets)


def settled(holder: Holder, limits: Limits) -> int:
    """Return how many of a holder's sockets are certainly older than the limit of a warning."""
    least = limits[WARNING_AGE]
    return sum(1 for waiting in holder.sockets if (waiting.age_min or 0.0) >= least)


def seconds_to_limit(holder: Holder, view: View) -> float | None:
    """Return when the sockets of a process reach its descriptor limit, as their ages tell.

    None where they do not come at a steady rate, or belong to several processes.
    """
    owner = holder.owner
    if owner is None or not owner.fd_limit or owner.fds is None or holder.processes > 1:
        return None
    # The youngest are not old enough to be anybody's leak, but they are part of the rate.
    uid = -1 if holder.uid is None else holder.uid
    alike = [view.close_waits_of.get((uid, kind), []) for kind in _kinds(holder)]
    if sum(map(len, alike)) > 2 * len(holder.sockets):  # others of this user have many too
        return None
    found = {w.socket.inode: w for w in (*holder.sockets, *chain.from_iterable(alike))}
    arrivals = holder._replace(sockets=tuple(found.values())).arrivals
    if arrivals is None or len(found) > 2 * len(holder.sockets):
        return None
    return (owner.fd_limit - owner.fds) / arrivals


def _kinds(holder: Holder) -> set[CloseWaitKind]:
    return {waiting.kind for waiting in holder.sockets}


def evidence(holder: Holder) -> dict[str, Value]:
    """Return the evidence that every finding about a holder of CLOSE_WAITs has."""
    owner = holder.owner
    fds, limit = (owner.fds, owner.fd_limit) if owner else (None, None)
    services = peers(holder)
    return {
        facts.CLOSE_WAIT: len(holder.sockets),
        facts.AGE_MIN: holder.age_min,
        facts.AGE_MAX: holder.age_max,
        facts.NEW: holder.new(),
        facts.FDS: fds,
        facts.FD_LIMIT: limit,
        facts.FD_RATIO: round(fds / limit, 4) if fds is not None and limit else None,
        facts.PROCESS_COUNT: holder.processes,
        facts.PIDS: list(holder.pids[:_MOST_PIDS]),
        facts.UID: holder.uid,
        facts.SERVICE_PORTS: service_ports(holder),
        facts.PEERS: [name for name, _ in services],
        facts.PEER_SOCKETS: [number for _, number in services],
    }


def service_ports(holder: Holder) -> list[int]:
    """Return the ports of the services that a holder's sockets belong to."""
    ports = {w.socket.local_port if w.server else w.socket.remote_port for w in holder.sockets}
    return sorted(ports)[:20]


def peers(holder: Holder, most: int = 3) -> list[tuple[str, int]]:
    """Return (service, sockets) that a holder's sockets belong to, busiest first.

    The service is the local port where this host is the server, the remote end where it is the
    client.
    """
    services: Counter[str] = Counter()
    for socket, server in ((w.socket, w.server) for w in holder.sockets):
        if server:
            services[f"local port {socket.local_port}"] += 1
        else:
            services[endpoint(socket.remote_address, socket.remote_port)] += 1
    return services.most_common(most)


def peers_text(holder: Holder) -> str:
    """Return "on local port 8080 (5)" or "to 10.0.0.5:5432 (40), 10.0.0.6:5432 (12)"."""
    found = peers(holder)
    words = ", ".join(f"{name} ({number})" for name, number in found)
    return f"on {words}" if found and found[0][0].startswith("local") else f"to {words}"
