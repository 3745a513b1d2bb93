"""What the rules on CLOSE_WAIT share: which sockets are old, whose they are, and their evidence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twdiag.wording import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.analysis.half_closed import Holder, Kind, Waiting
    from twdiag.model import Snapshot, Value
    from twdiag.model.limits import Limits


def aged(snapshot: Snapshot, limits: Limits, kind: Kind) -> list[Waiting]:
    """Return the CLOSE_WAITs of a kind that are certainly older than the limit."""
    least = limits["close-wait-age"]
    return [
        waiting
        for waiting in snapshot.close_waits
        if waiting.kind is kind and (waiting.age_min or 0.0) >= least
    ]


def held_inodes(snapshot: Snapshot, sockets: Iterable[Waiting]) -> Iterator[int]:
    """Yield the inodes of some CLOSE_WAITs."""
    for waiting in sockets:
        inode = snapshot.sockets.inode[waiting.row]
        if inode:
            yield inode


def common_evidence(snapshot: Snapshot, holder: Holder) -> dict[str, Value]:
    """Return the evidence that every finding about a holder of CLOSE_WAITs has."""
    owner = holder.owner
    fds, limit = (owner.fds, owner.fd_limit) if owner else (None, None)
    return {
        "close_wait": len(holder.sockets),
        "age_seconds_min": holder.age_min,
        "age_seconds_max": holder.age_max,
        "new_since_first_sample": holder.new(),
        "fds": fds,
        "fd_limit": limit,
        "fd_ratio": round(fds / limit, 4) if fds is not None and limit else None,
        "process_count": holder.processes,
        "uid": holder.uid,
        "service_ports": service_ports(snapshot, holder),
        "peers": [name for name, _ in peers(snapshot, holder)],
        "peer_sockets": [number for _, number in peers(snapshot, holder)],
    }


def service_ports(snapshot: Snapshot, holder: Holder) -> list[int]:
    """Return the ports of the services that a holder's sockets belong to."""
    table = snapshot.sockets
    return sorted({table.sport[w.row] if w.server else table.dport[w.row] for w in holder.sockets})[
        :20
    ]


def peers(snapshot: Snapshot, holder: Holder, most: int = 3) -> list[tuple[str, int]]:
    """Return (service, sockets) that a holder's sockets belong to, busiest first.

    The service is the local port where this host is the server, the remote end where it is the
    client.
    """
    table = snapshot.sockets
    services: Counter[str] = Counter()
    for waiting in holder.sockets:
        row = waiting.row
        if waiting.server:
            services[f"local port {table.sport[row]}"] += 1
        else:
            services[endpoint(table.addresses.text(table.dst[row]), table.dport[row])] += 1
    return services.most_common(most)


def peers_text(snapshot: Snapshot, holder: Holder) -> str:
    """Return "on local port 8080 (5)" or "to 10.0.0.5:5432 (40), 10.0.0.6:5432 (12)"."""
    found = peers(snapshot, holder)
    words = ", ".join(f"{name} ({number})" for name, number in found)
    return f"on {words}" if found and found[0][0].startswith("local") else f"to {words}"
