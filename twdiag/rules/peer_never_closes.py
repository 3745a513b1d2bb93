"""Connections that this host closed wait for a FIN that their peers do not send.

What it means:
FIN_WAIT2: this host closed first and the peer's kernel has acknowledged it, but the peer's
application has not closed. After shutdown(SHUT_WR) the process still holds the socket and waits
for as long as it likes. After close() the socket is an orphan and the kernel drops it after
tcp_fin_timeout (60 s).

Why it matters:
Held sockets cost a descriptor each and have no time limit. Orphans end by themselves, but many of
them tell that the applications at the other end leak: there these connections are in CLOSE_WAIT.

What to do:
Look at the peer: it is the one that has to close. For sockets that a process holds, give the
process a timeout on reading after shutdown().

What not to do:
- Do not raise tcp_fin_timeout above 60: the kernel's arithmetic then gives 2 x (T - 60) seconds,
  so 61 means 2 s.
- Do not expect TIME_WAIT to change with tcp_fin_timeout: it does not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twdiag.census.flows import is_mini
from twdiag.model import (
    Advice,
    Confidence,
    DestinationSubject,
    Finding,
    Place,
    Rule,
    Severity,
    Subject,
)
from twdiag.rules import manual
from twdiag.rules.subjects import listener_subject
from twdiag.tcp import State
from twdiag.wording import count, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Owner, Snapshot
    from twdiag.model.limits import Limits

NAME = "peer-never-closes"
MANUAL = __doc__ or ""
_TIMEOUT = "net.ipv4.tcp_fin_timeout"


@dataclass
class _Group:
    held: list[int] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)


def _service(snapshot: Snapshot, row: int) -> tuple[str, int, int]:
    """Return the service that a row belongs to: the own listener, else the destination."""
    table, flows = snapshot.sockets, snapshot.flows
    if flows.server_side[row]:
        return "listener", table.src[row], table.sport[row]
    return "destination", table.dst[row], table.dport[row]


def _groups(snapshot: Snapshot, limits: Limits) -> dict[tuple[str, int, int], _Group]:
    table = snapshot.sockets
    # Above 60 s the kernel splits the wait: the mini-socket of the second part lives T - 60 s
    # (tcp_rcv_state_process()).  A TCP_LINGER2 of the application is not visible.
    timeout = snapshot.sysctl(_TIMEOUT) or 60
    timeout = timeout - 60 if timeout > 60 else timeout
    least = limits["fin-wait2-age"]
    groups: dict[tuple[str, int, int], _Group] = defaultdict(_Group)
    for row in table.rows_in(State.FIN_WAIT2):
        held = table.inode[row] != 0
        if held:
            info = snapshot.tcp_info.get(table.cookie[row])
            age = info.last_ack_recv / 1000 if info else None
        else:
            age = timeout - table.expires[row] / 1000 if is_mini(table, row) else None
        if age is not None and age >= least:
            group = groups[_service(snapshot, row)]
            (group.held if held else group.orphans).append(row)
            group.ages.append(age)
    return groups


def inodes(snapshot: Snapshot, limits: Limits) -> Iterator[int]:
    """Yield the inodes of old sockets that a process holds half-closed."""
    for group in _groups(snapshot, limits).values():
        if len(group.held) >= limits["fin-wait2-held-notice"]:
            yield from (snapshot.sockets.inode[row] for row in group.held)


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each service whose peers do not close."""
    for key, group in _groups(snapshot, limits).items():
        held = len(group.held) >= limits["fin-wait2-held-notice"]
        orphaned = len(group.orphans) >= limits["fin-wait2-orphans-notice"]
        if held or orphaned:
            serious = len(group.held) >= limits["fin-wait2-held-warning"]
            severity = Severity.WARNING if serious else Severity.NOTICE
            yield _finding(snapshot, key, group, severity)


def _finding(
    snapshot: Snapshot, key: tuple[str, int, int], group: _Group, severity: Severity
) -> Finding:
    kind, number, port = key
    address = snapshot.sockets.addresses.text(number)
    subject: Subject = DestinationSubject(None, address, port)
    where = f"the peer {endpoint(address, port)}"
    if kind == "listener":
        listener = snapshot.flows.find_listener(number, port)
        where = f"clients of the local port {port}"
        if listener is not None:
            subject = listener_subject(snapshot, listener)
    total = len(group.held) + len(group.orphans)
    owners = {o.pid: o for row in group.held for o in _owners(snapshot, row)}
    by = f", held by {next(iter(owners.values())).name}" if owners else ""
    return Finding(
        NAME,
        severity,
        Confidence.OBSERVED,
        f"{where} never closed {count(total, 'connection')} that this host closed "
        f"({len(group.held):,} half-closed{by}, {len(group.orphans):,} orphans)",
        subject,
        {
            "fin_wait2": total,
            "held": len(group.held),
            "orphans": len(group.orphans),
            "age_seconds_min": round(min(group.ages), 1),
            "tcp_fin_timeout": snapshot.sysctl(_TIMEOUT),
            "processes": [owner.name for owner in owners.values()],
        },
        manual.why(MANUAL),
        (
            Advice(
                "Look at the other end: its application has to close",
                "run twdiag there: these connections are in CLOSE_WAIT",
                verify="the FIN_WAIT2 sockets turn into TIME_WAIT and go",
            ),
            Advice(
                "Give the local process a read timeout after shutdown()",
                "or let it close() instead of shutdown(): the kernel then limits the wait",
                "what the peer still sends is lost then",
            )
            if group.held
            else Advice("Wait: the kernel drops orphans after tcp_fin_timeout by itself"),
        ),
        manual.do_not(MANUAL),
        Place.of(State.FIN_WAIT2),
        snapshot.netns,
    )


def _owners(snapshot: Snapshot, row: int) -> Iterator[Owner]:
    yield from snapshot.owners.get(snapshot.sockets.inode[row], ())


RULE = Rule(NAME, MANUAL, check, ("sockets", "timers", "inodes"), inodes)
