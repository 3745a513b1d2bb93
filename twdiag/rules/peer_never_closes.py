"""Connections that this host closed wait for a FIN that their peers do not send.

What it means:
FIN_WAIT2: this host closed first and the peer's kernel has acknowledged it, but the peer's
application has not closed. After shutdown(SHUT_WR) the process still holds the socket and waits
for as long as it likes. After close() the socket is an orphan and the kernel drops it after
tcp_fin_timeout (60 s).

Why it matters:
Held sockets cost a descriptor each and have no time limit. Orphans end by themselves, but many of
them show that the applications at the other end leak: over there these connections are in
CLOSE_WAIT.

What to do:
Look at the peer: it is the one that has to close. For sockets that a process holds, give the
process a timeout on reading after shutdown().

What not to do:
- Do not raise tcp_fin_timeout above 60: the kernel's arithmetic then gives 2 x (T - 60) seconds,
  so 61 means 2 s.
- Do not expect TIME_WAIT to change with tcp_fin_timeout: it does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from twdiag.analysis.half_closed import is_full_orphan, orphan_age
from twdiag.census.moments import LONGEST_LEFT
from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, DestinationSubject, Finding, Place, Severity
from twdiag.model.limits import seconds, sockets
from twdiag.rules import manual
from twdiag.rules.behind import RowsBehind, these
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import listener_subject, names_of
from twdiag.tcp import State
from twdiag.wording import count, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.census import Listener, Tally
    from twdiag.model.findings import Subject
    from twdiag.model.limits import Limits
    from twdiag.model.sockets import Socket

NAME = "peer-never-closes"
AGE = seconds("fin-wait2-age", 10, "a FIN_WAIT2 younger than this waits normally")
HELD_NOTICE = sockets("fin-wait2-held-notice", 5, "old half-closed sockets that a process holds")
HELD_WARNING = sockets("fin-wait2-held-warning", 50, "old half-closed sockets that a process holds")
ORPHANS_NOTICE = sockets(
    "fin-wait2-orphans-notice", 20, "old orphans that wait for the FIN of one service"
)
_TIMEOUT = "net.ipv4.tcp_fin_timeout"

_Service = tuple[str, str, int]
"""(kind, address, port): the own listener, else the destination"""


class _Waiting:
    """The old FIN_WAIT2 sockets of one service, with their ages.

    `full` are orphans that are not mini-sockets yet; `orphans` counts both.
    """

    def __init__(self, service: _Service, listener: Listener | None) -> None:
        self.service = service
        self.listener = listener
        self.held: list[Socket] = []
        self.full: list[Socket] = []
        self.orphans = 0
        self.ages: list[float] = []


def select(view: View, limits: Limits) -> Iterator[Group[_Waiting]]:
    """Yield the services whose peers do not close."""
    groups: dict[_Service, _Waiting] = {}
    for server in view.servers:
        end = "listener", server.listener.address, server.listener.port
        group = _Waiting(end, server.listener)
        groups[end] = group
        _add_orphans(view, limits, group, server.tally)
    for destination in view.destinations(1):
        end = "destination", destination.address, destination.port
        group = groups.setdefault(end, _Waiting(end, None))
        _add_orphans(view, limits, group, destination.tally)
    for socket in view.sockets(State.FIN_WAIT2):
        age = socket.info.last_ack_recv / 1000 if socket.info else None
        if age is None or age < limits[AGE]:
            continue
        group = _group_of(view, socket, groups)
        if socket.inode:
            group.held.append(socket)
        elif is_full_orphan(socket):
            group.full.append(socket)
            group.orphans += 1
        else:
            continue
        group.ages.append(age)
    for group in sorted(groups.values(), key=lambda one: -len(one.held) - one.orphans):
        held = len(group.held) >= limits[HELD_NOTICE]
        if held or group.orphans >= limits[ORPHANS_NOTICE]:
            yield Group(group, tuple(s.inode for s in group.held) if held else ())


def _group_of(view: View, socket: Socket, groups: dict[_Service, _Waiting]) -> _Waiting:
    listener = view.listener_of(socket)
    end = "destination", socket.remote_address, socket.remote_port
    if listener is not None:
        end = "listener", listener.address, listener.port
    return groups.setdefault(end, _Waiting(end, listener))


def _add_orphans(view: View, limits: Limits, group: _Waiting, tally: Tally) -> None:
    for left, number in tally.orphans.items():
        age = _least_age(view, left)
        if age >= limits[AGE]:
            group.orphans += number
            group.ages.append(age)


def _least_age(view: View, left: int) -> float:
    """Return how old an orphan's mini-socket is at least that has so many whole seconds left."""
    timeout = view.sysctl(_TIMEOUT) or 60
    # With so much left its timer can have just begun: only what was before is certain.
    return float(max(0, timeout - 60)) if left >= LONGEST_LEFT else orphan_age(left, timeout)


def tell(view: View, limits: Limits, group: Group[_Waiting]) -> Iterator[Finding]:
    """Yield one finding for each service."""
    waiting = group.about
    _, address, port = waiting.service
    subject: Subject = DestinationSubject(None, address, port)
    where = f"the peer {endpoint(address, port)}"
    if waiting.listener is not None:
        subject = listener_subject(view, waiting.listener)
        where = f"clients of port {port}"
    held = len(waiting.held)
    owners = view.owners_of(socket.inode for socket in waiting.held)
    by = f", held by {owners[0].name}" if owners else ""
    yield Finding(
        Severity.WARNING if held >= limits[HELD_WARNING] else Severity.NOTICE,
        Confidence.OBSERVED,
        f"{where} never closed {count(held + waiting.orphans, 'connection')} that this host closed "
        f"({held:,} half-closed{by}, {waiting.orphans:,} orphans)",
        subject,
        {
            facts.FIN_WAIT2: held + waiting.orphans,
            facts.HELD: held,
            facts.ORPHANS: waiting.orphans,
            facts.AGE_MIN: round(min(waiting.ages), 1),
            facts.FIN_TIMEOUT: view.sysctl(_TIMEOUT),
            facts.PROCESSES: names_of(owners),
        },
        (
            Advice(
                "Look at the other end, whose application has to close",
                "its sockets are in CLOSE_WAIT there; run twdiag on that host",
                verify=f"they turn into TIME_WAIT and go: twdiag sockets --rule {NAME}",
            ),
            Advice(
                "Give the local process a read timeout after shutdown()",
                "or let it close() instead of shutdown(), and the kernel limits the wait",
                "what the peer still sends is lost then",
            )
            if waiting.held
            else Advice(f"Wait: the kernel drops orphans {_drops_after(view)} by itself"),
        ),
        Place.of(State.FIN_WAIT2),
    )


def _drops_after(view: View) -> str:
    """Return when the kernel drops an orphan: above 60 s the sysctl does not mean what it says."""
    timeout = view.sysctl(_TIMEOUT) or 60
    return f"after {2 * (timeout - 60)} s" if timeout > 60 else "after tcp_fin_timeout"


def rows(view: View, limits: Limits, group: Group[_Waiting]) -> RowsBehind:
    """Return the sockets that wait for the FIN of the service's peers, and the old orphans."""
    waiting = group.about
    held = these([*waiting.held, *waiting.full])
    _, address, port = waiting.service

    def fits(socket: Socket) -> bool:
        if socket.state is not State.FIN_WAIT2 or not socket.is_mini:
            return held.fits(socket)
        if _least_age(view, min(LONGEST_LEFT, math.ceil(socket.expires / 1000))) < limits[AGE]:
            return False
        if waiting.listener is not None:
            return view.listener_of(socket) == waiting.listener
        ends = socket.remote_address, socket.remote_port
        return ends == (address, port) and view.is_client(socket)

    return RowsBehind(fits)


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets", "timers", "inodes"),
    (AGE, HELD_NOTICE, HELD_WARNING, ORPHANS_NOTICE),
    rows,
)
